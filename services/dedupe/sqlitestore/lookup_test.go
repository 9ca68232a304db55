package sqlitestore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/dedupe/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

func TestAnyNumberOfKeysIsLookedUpInTheirOrder(t *testing.T) {
	store, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "dedupe.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	now := time.Unix(1_800_000_000, 0)
	pos, _, err := store.Claim(t.Context(), "topic", 0)
	if err != nil {
		t.Fatal(err)
	}
	key := func(n int) dedupe.Key { return dedupe.KeyOf("docs", fmt.Sprint(n)) }
	err = store.Update(t.Context(), func(ctx context.Context, tx dedupe.Tx) (stage.Advance, error) {
		for n := range 100 {
			expires := now.Add(time.Hour)
			if n%3 == 1 {
				expires = now
			}
			if err := tx.Remember(ctx, key(n), dedupe.First{EventID: fmt.Sprint("event-", n), Partition: 1, Offset: int64(n), Expires: expires}); err != nil {
				return stage.Advance{}, err
			}
		}
		if c, ok := tx.(interface{ Flush(context.Context) error }); ok {
			if err := c.Flush(ctx); err != nil {
				return stage.Advance{}, err
			}
		}
		return stage.Advance{Position: pos}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, count := range []int{0, 1, 2, 8, 9, 32, 33, 100} {
		keys := make([]dedupe.Key, count)
		for i := range keys {
			keys[i] = key(2 * i) // from 50 on there are none
		}
		found, err := store.Lookup(t.Context(), keys, now)
		if err != nil || len(found) != count {
			t.Fatalf("%d of %d keys, %v", len(found), count, err)
		}
		for i, f := range found {
			known := 2*i < 100 && (2*i)%3 != 1
			if (f != nil) != known || (known && (f.EventID != fmt.Sprint("event-", 2*i) || f.Offset != int64(2*i))) {
				t.Errorf("of %d keys, number %d: %+v, known: %t", count, 2*i, f, known)
			}
		}
	}
}
