package sqlite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// blobs is a database with a table of blobs, of which each says its id.
func blobs(t *testing.T) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "d.db"), sqlite.Options{
		Migrations: []string{"CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)"}, Map: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func blob(id int64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(id)), 250)
}

const visitBlobs = `SELECT count(visit(?, id, data)) FROM blobs WHERE id IN %s`

// The file grows to several times what is mapped at first, and pages move from the write-ahead log to it, while all of it is read.
func TestVisitsHandOutWhatIsThere(t *testing.T) {
	db, n := blobs(t), int64(0)
	for range 60 {
		err := db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error {
			var rows []any
			for range 200 {
				n++
				rows = append(rows, n, blob(n))
			}
			return tx.InsertRows(ctx, "INSERT INTO blobs (id, data)", 2, rows, "")
		})
		if err != nil {
			t.Fatal(err)
		}
		ids := []any{n + 1} // not there
		for id := int64(1); id <= n; id += 7 {
			ids = append(ids, id)
		}
		read := func(ctx context.Context, q sqlite.Queryer) error {
			seen := map[int64]bool{}
			err := q.VisitIn(ctx, visitBlobs, ids, func(id int64, data []byte) error {
				if seen[id] || !bytes.Equal(data, blob(id)) {
					t.Errorf("%d: %x", id, data)
				}
				seen[id] = true
				return nil
			})
			if len(seen) != len(ids)-1 {
				t.Errorf("%d of %d rows", len(seen), len(ids)-1)
			}
			return err
		}
		if err := errors.Join(db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error { return read(ctx, tx) }), read(t.Context(), db.Committed())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAVisitEndsWithTheErrorOfWhoVisits(t *testing.T) {
	db := blobs(t)
	wrong, visits := errors.New("wrong"), 0
	err := db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error {
		if err := tx.InsertRows(ctx, "INSERT INTO blobs (id, data)", 2, []any{1, blob(1), 2, blob(2)}, ""); err != nil {
			return err
		}
		err := tx.VisitIn(ctx, visitBlobs, []any{1, 2}, func(int64, []byte) error { visits++; return wrong })
		if !errors.Is(err, wrong) || visits != 1 {
			t.Errorf("%d visits, %v", visits, err)
		}
		return nil // the transaction goes on
	})
	if err != nil {
		t.Error(err)
	}
	visits = 0
	err = db.Committed().VisitIn(t.Context(), visitBlobs, []any{1, 2, 3}, func(int64, []byte) error { visits++; return nil })
	if err != nil || visits != 2 {
		t.Errorf("%d visits, %v", visits, err)
	}
	if _, err := db.Read.ExecContext(t.Context(), "SELECT visit(0, 1, x'00')"); err == nil {
		t.Error("somebody reads under a number that nobody has")
	}
}
