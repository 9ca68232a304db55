package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// TestRowsOfFormerVersionsMove opens a database whose documents are still in a B-tree.
func TestRowsOfFormerVersionsMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	moves := slices.Index(migrations, sqlite.StageMarkSchema) - 1 // the migration that moves them
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{Migrations: migrations[:moves]})
	if err != nil {
		t.Fatal(err)
	}
	const n = moveBatch + 10
	err = db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error {
		for i := range n {
			raw, err := json.Marshal(sequencer.State{Last: int64(i), HasLast: true})
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO documents (key, partition, due, held, state) VALUES (?, 2, ?, 0, ?)`, fmt.Sprintf("s/%d", i), max(0, 10-i), raw); err != nil {
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
		for _, i := range []int{0, moveBatch, n - 1} {
			if st, err := s.Document(t.Context(), fmt.Sprintf("s/%d", i)); err != nil || st.Last != int64(i) || !st.HasLast {
				t.Errorf("document %d: %+v, %v", i, st, err)
			}
		}
		pos, _, err := s.Claim(t.Context(), "in", 2)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Update(t.Context(), func(ctx context.Context, tx sequencer.Tx) (stage.Advance, error) {
			due, err := tx.Due(ctx, 2, time.UnixMicro(3), 10)
			if fmt.Sprint(due) != "[s/9 s/8 s/7]" {
				t.Errorf("due are %v", due)
			}
			return stage.Advance{Position: pos}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
