package sqlitestore

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

func FuzzDecodeRows(f *testing.F) {
	now := time.UnixMicro(1_800_000_000_000_000)
	f.Add(encodeFirst(dedupe.First{EventID: uuid.Nil.String(), Partition: 3, Offset: 1 << 40}))
	f.Add(encodeLatest(latest{Newest: dedupe.Newest{EventID: "e", Hash: []byte{1}, Version: "v", Deleted: true, Polled: now, Expires: now}, last: 7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if first, err := decodeFirst(b, 5); err == nil {
			again, err := decodeFirst(encodeFirst(first), 5)
			if err != nil || again != first {
				t.Fatalf("%+v became %+v, %v", first, again, err)
			}
		}
		if l, err := decodeLatest(b); err == nil {
			again, err := decodeLatest(encodeLatest(l))
			if err != nil || !reflect.DeepEqual(again, l) {
				t.Fatalf("%+v became %+v, %v", l, again, err)
			}
		}
	})
}

// TestRowsOfFormerVersionsMove opens a database whose rows are still in B-trees.
func TestRowsOfFormerVersionsMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{Migrations: migrations[:len(migrations)-2]})
	if err != nil {
		t.Fatal(err)
	}
	const n = moveBatch + 10
	expires := time.Now().Add(time.Hour).UnixMicro()
	err = db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error {
		for i := range n {
			key := dedupe.KeyOf("s", fmt.Sprint(i))
			if _, err := tx.Exec(ctx, `INSERT INTO keys (key, event, partition, offset, expires) VALUES (?, ?, 1, ?, ?)`, key[:], packID(fmt.Sprint("e", i)), i, expires); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO newest (document, event, hash, version, deleted, polled, expires, last) VALUES (?, ?, x'01', 'v', 1, 5, ?, ?)`,
				fmt.Appendf(nil, "s/%d", i), packID(uuid.Nil.String()), expires, i+1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{0, 1, moveBatch, n - 1} {
			firsts, err := s.Lookup(t.Context(), []dedupe.Key{dedupe.KeyOf("s", fmt.Sprint(i))}, time.Now())
			if err != nil || firsts[0] == nil || firsts[0].EventID != fmt.Sprint("e", i) || firsts[0].Offset != int64(i) || firsts[0].Expires.UnixMicro() != expires {
				t.Errorf("key %d: %+v, %v", i, firsts[0], err)
			}
			found, err := s.latest.Get(t.Context(), []string{fmt.Sprintf("s/%d", i)})
			if err != nil {
				t.Fatal(err)
			}
			l, err := decodeLatest(found[fmt.Sprintf("s/%d", i)].Value)
			want := latest{Newest: dedupe.Newest{EventID: uuid.Nil.String(), Hash: []byte{1}, Version: "v", Deleted: true, Polled: time.UnixMicro(5), Expires: time.UnixMicro(expires)}, last: int64(i + 1), there: true}
			if err != nil || !reflect.DeepEqual(l, want) {
				t.Errorf("document %d: %+v, %v; want %+v", i, l, err, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
