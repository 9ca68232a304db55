package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Export hands out what a query finds, a row at a time, under the names of its columns.
func (db *DB) Export(ctx context.Context, query string, add func(archive.Row) error) (err error) {
	rows, err := db.Read.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row := make(archive.Row, len(columns))
		for i, column := range columns {
			row[column] = values[i]
			if b, ok := values[i].([]byte); ok {
				row[column] = archive.Bytes(b)
			}
		}
		if err := add(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ExportTables exports tables by name, each as its query finds it.
func (db *DB) ExportTables(ctx context.Context, tables [][2]string, add func(table string, row archive.Row) error) error {
	for _, t := range tables {
		if err := db.Export(ctx, t[1], func(row archive.Row) error { return add(t[0], row) }); err != nil {
			return fmt.Errorf("export table %s: %w", t[0], err)
		}
	}
	return nil
}

// Progress returns the positions of all partitions, and the outbox of each, without claiming them.
func (s *StageStore[T]) Progress(ctx context.Context) (all []stage.Position, outboxes [][]stage.Pending, err error) {
	err = s.db.InTx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT topic, partition FROM stage_positions ORDER BY topic, partition`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		var known []stage.Position
		for rows.Next() {
			var p stage.Position
			if err := rows.Scan(&p.Topic, &p.Partition); err != nil {
				return err
			}
			known = append(known, p)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, p := range known {
			pos, err := readPosition(ctx, tx, p.Topic, p.Partition)
			if err != nil {
				return err
			}
			pending, err := readOutbox(ctx, tx, p.Topic, p.Partition)
			if err != nil {
				return err
			}
			all, outboxes = append(all, pos), append(outboxes, pending)
		}
		return nil
	})
	return all, outboxes, err
}
