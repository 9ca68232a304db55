package sqlitestore

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

// Export hands out the sources that were made at run time, for another store. Their secrets stay sealed.
func (s *Store) Export(ctx context.Context, add func(table string, row archive.Row) error) error {
	return s.db.ExportTables(ctx, [][2]string{
		{"meta", `SELECT revision, salt FROM meta`},
		{"sources", `SELECT name, revision, disabled, sealed, created_at, updated_at FROM sources ORDER BY name`},
		{"secret_uses", `SELECT source, secret, at FROM secret_uses ORDER BY source, secret`},
	}, add)
}
