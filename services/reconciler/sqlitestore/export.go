package sqlitestore

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

// Export hands out what the reconciler knows, for another store, without its leases: whoever held them is not there any more.
func (s *Store) Export(ctx context.Context, add func(table string, row archive.Row) error) error {
	return s.db.ExportTables(ctx, [][2]string{
		{"cursors", `SELECT source, CAST(cursor AS BLOB) AS cursor, polled FROM cursors ORDER BY source`},
		{"debts", `SELECT source, CAST(document AS BLOB) AS document, debt, version FROM debts ORDER BY seq`},
		{"paid", `SELECT source, n, written_off FROM paid ORDER BY source`},
		{"dead_letters", `SELECT CAST(id AS BLOB) AS id, source, CAST(document AS BLOB) AS document, stage, code, at, letter, state, replays, resolved, trace FROM dead_letters ORDER BY seq`},
		{"states", `SELECT kind, source, state FROM states ORDER BY kind, source`},
	}, add)
}
