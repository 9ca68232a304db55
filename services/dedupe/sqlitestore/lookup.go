package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// lookupSizes are for how many keys there are statements. Every webhook asks, so they stay prepared, and a batch is one query.
var lookupSizes = []int{1, 8, 32}

// lookups reads deliveries by their keys, outside of transactions.
type lookups []*sql.Stmt

func prepareLookups(ctx context.Context, db *sqlite.DB) (lookups, error) {
	all := make(lookups, len(lookupSizes))
	for i, n := range lookupSizes {
		stmt, err := db.Read.PrepareContext(ctx, `SELECT event, typeof(event), partition, offset, expires, key FROM keys WHERE key IN (?`+strings.Repeat(`, ?`, n-1)+`)`) //nolint:sqlclosecheck // lookups.close does
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the look-up of %d keys: %w", n, err), all.close())
		}
		all[i] = stmt
	}
	return all, nil
}

func (l lookups) close() error {
	var errs []error
	for _, stmt := range l {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// Lookup implements dedupe.Store.
func (s *Store) Lookup(ctx context.Context, keys []dedupe.Key, now time.Time) ([]*dedupe.First, error) {
	firsts := map[dedupe.Key]*dedupe.First{}
	for rest := keys; len(rest) > 0; {
		size := 0
		for size < len(lookupSizes)-1 && lookupSizes[size] < len(rest) {
			size++
		}
		n := min(len(rest), lookupSizes[size])
		if err := s.lookups.read(ctx, size, rest[:n], firsts); err != nil {
			return nil, fmt.Errorf("look up %d keys: %w", n, err)
		}
		rest = rest[n:]
	}
	found := make([]*dedupe.First, len(keys))
	for i, k := range keys {
		if f := firsts[k]; f != nil && f.Expires.After(now) {
			found[i] = f
		}
	}
	return found, nil
}

// read runs the statement of a size. The places that are left over are null, which no key is.
func (l lookups) read(ctx context.Context, size int, keys []dedupe.Key, firsts map[dedupe.Key]*dedupe.First) error {
	args := make([]any, lookupSizes[size])
	for i := range keys {
		args[i] = keys[i][:]
	}
	rows, err := l[size].QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		f := &dedupe.First{}
		var key []byte
		if err := scanFirst(rows.Scan, f, &key); err != nil {
			return err
		}
		firsts[dedupe.Key(key)] = f
	}
	return rows.Err()
}
