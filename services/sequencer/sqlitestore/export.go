package sqlitestore

import (
	"context"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

// Export hands out what the sequencer knows, for another store. Partitions are left out, because another log may have another number
// of them, all but the highest revision that any of them forgot.
func (s *Store) Export(ctx context.Context, add func(table string, row archive.Row) error) error {
	const scanned = 2000
	for after, more := "", true; more; {
		entries, err := s.states.Scan(ctx, after, "", scanned)
		if err != nil {
			return fmt.Errorf("export documents: %w", err)
		}
		for _, e := range entries {
			after = e.Key
			if err := add("documents", archive.Row{"key": archive.Bytes(e.Key), "state": archive.Bytes(e.Value)}); err != nil {
				return err
			}
		}
		more = len(entries) == scanned
	}
	return s.db.ExportTables(ctx, [][2]string{
		{"held", `SELECT event, record, headers, at FROM held ORDER BY event`},
		{"members", `SELECT CAST(container AS BLOB) AS container, CAST(key AS BLOB) AS key FROM members ORDER BY container, key`},
		{"graves", `SELECT CAST(container AS BLOB) AS container, time, at FROM graves ORDER BY container`},
		{"sources", `SELECT name, numbers FROM sources ORDER BY name`},
		{"events", `SELECT id, at, record FROM events ORDER BY id`},
		{"floor", `SELECT max(floor) AS floor FROM partitions HAVING max(floor) > 0`},
	}, add)
}
