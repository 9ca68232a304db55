package lsm

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

const (
	// oldPageBits are how many bits of a page's number said which page of its run it was.
	oldPageBits = 24
	// oldPages is how many pages are read at once.
	oldPages = 256
)

// move writes the runs that an older version kept as pages of the database into files, each in a transaction of its own, and then deletes the
// pages. The database file keeps its size and uses what is free again.
func (t *Table) move(ctx context.Context) error {
	of := func(s string) string { return strings.ReplaceAll(s, "NAME", t.name) }
	for more := true; more; {
		err := t.db.InRows(ctx, func(ctx context.Context, tx *sqlite.Tx) error {
			old := &run{}
			var state int
			more = false
			err := tx.EachOnce(ctx, func(rows *sql.Rows) error {
				more = true
				return rows.Scan(&old.id, &state, &old.level, &old.upto, &old.entries)
			}, of(`SELECT id, state, level, upto, entries FROM NAME_runs WHERE token = 0 LIMIT 1`))
			if err != nil || !more {
				return err
			}
			if _, err := tx.ExecContext(ctx, of(`DELETE FROM NAME_runs WHERE id = ?`), old.id); err != nil || state != live {
				return err
			}
			if err := t.rewrite(ctx, tx, old, of(`SELECT id, data FROM NAME_pages WHERE id >= ? AND id < ? ORDER BY id LIMIT ?`)); err != nil {
				return fmt.Errorf("run %d: %w", old.id, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	pages := false
	err := t.db.Committed().Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&pages) }, of(`SELECT EXISTS (SELECT 1 FROM NAME_pages)`))
	if err != nil || !pages {
		return err
	}
	_, err = t.db.Write.ExecContext(ctx, of(`DELETE FROM NAME_pages`)) // of all at once none is read or written
	return err
}

// rewrite makes a file of a run's pages.
func (t *Table) rewrite(ctx context.Context, tx *sqlite.Tx, old *run, pages string) error {
	v := &View{t: t, tx: tx, next: old.id}
	w, err := v.begin(ctx, old.level, old.upto, old.entries)
	if err != nil {
		return err
	}
	defer w.close()
	for next, more := old.id<<oldPageBits, true; more; {
		more = false
		err := tx.EachOnce(ctx, func(rows *sql.Rows) error {
			var id int64
			var data []byte
			if err := rows.Scan(&id, &data); err != nil {
				return err
			}
			next, more = id+1, true
			for len(data) > 0 {
				e, rest, err := readEntry(data)
				if err != nil {
					return fmt.Errorf("page %d: %w", id, err)
				}
				if err := w.add(&e); err != nil {
					return err
				}
				data = rest
			}
			return nil
		}, pages, next, (old.id+1)<<oldPageBits, oldPages)
		if err != nil {
			return err
		}
	}
	if w.run.entries != old.entries {
		return fmt.Errorf("it has %d entries instead of %d: %w", w.run.entries, old.entries, errCorrupt)
	}
	if _, err := w.step(math.MaxInt); err != nil {
		return err
	}
	return w.end(ctx, tx)
}
