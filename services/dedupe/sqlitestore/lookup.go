package sqlitestore

import (
	"context"
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/dedupe"
)

// Lookup implements dedupe.Store.
func (s *Store) Lookup(ctx context.Context, keys []dedupe.Key, now time.Time) ([]*dedupe.First, error) {
	entries, err := s.firsts.Get(ctx, keyStrings(keys))
	if err != nil {
		return nil, fmt.Errorf("look up %d keys: %w", len(keys), err)
	}
	firsts, err := decodeFirsts(entries)
	if err != nil {
		return nil, fmt.Errorf("look up %d keys: %w", len(keys), err)
	}
	found := make([]*dedupe.First, len(keys))
	for i, k := range keys {
		if f, ok := firsts[k]; ok && f.Expires.After(now) {
			found[i] = &f
		}
	}
	return found, nil
}
