package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// Raise lets the next revisions of documents be higher than the given ones, by key, and says how many documents would have come out lower. It is for a
// database that came back older than what it sent: whoever got these revisions would take the next ones for old. partition says in which of
// so many partitions a key lies.
func (s *Store) Raise(ctx context.Context, revisions map[string]int64, partitions int, partition func(key []byte) int) (raised int, err error) {
	err = s.db.InRows(ctx, func(ctx context.Context, t *sqlite.Tx) error {
		raised = 0
		view := &tx{Tx: t, table: s.states}
		states, err := view.Documents(ctx, slices.Collect(maps.Keys(revisions)))
		if err != nil {
			return err
		}
		floors, err := readFloors(ctx, t, partitions)
		if err != nil {
			return err
		}
		var changed []sequencer.StoredDocument
		floor := int64(0)
		for key, revision := range revisions {
			p := partition([]byte(key))
			st, known := states[key]
			switch {
			case known && (st.Base != 0 || st.Revision != 0):
				if low := revision - st.Base - st.Revision; low > 0 {
					st.Base += low
					changed, raised = append(changed, sequencer.StoredDocument{Key: key, Partition: p, State: st}), raised+1
				}
			case floors[p] < revision: // a document that is new to the sequencer begins above the floor
				floor, raised = max(floor, revision), raised+1
			}
		}
		if err := raiseFloors(ctx, t, floors, floor); err != nil || len(changed) == 0 {
			return err
		}
		return view.SetDocuments(ctx, changed)
	})
	if err != nil {
		return 0, fmt.Errorf("raise revisions: %w", err)
	}
	return raised, nil
}

func readFloors(ctx context.Context, t *sqlite.Tx, partitions int) ([]int64, error) {
	floors := make([]int64, partitions)
	return floors, t.Each(ctx, func(rows *sql.Rows) error {
		var p int
		var floor int64
		if err := rows.Scan(&p, &floor); err != nil {
			return err
		}
		if p < partitions {
			floors[p] = floor
		}
		return nil
	}, `SELECT partition, floor FROM partitions`)
}

func raiseFloors(ctx context.Context, t *sqlite.Tx, floors []int64, floor int64) error {
	for p, before := range floors {
		if before >= floor {
			continue
		}
		if _, err := t.Exec(ctx, `INSERT INTO partitions (partition, held, floor) VALUES (?, 0, ?) ON CONFLICT DO UPDATE SET floor = excluded.floor`, p, floor); err != nil {
			return err
		}
	}
	return nil
}
