package pgstore

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// Tables are what is imported.
func Tables() []string { return []string{"sources", "secret_uses"} }

// Import writes rows of a table that another store exported. The salt replaces one that a service made which started on the empty
// database: ids of secrets, and what is known of their use, hang on it.
func Import(ctx context.Context, im *postgres.Import, table string, rows []archive.Row) error {
	if table != "meta" {
		return im.Insert(ctx, table, rows)
	}
	return im.Exec(ctx, rows, `UPDATE meta SET revision = m.revision, salt = m.salt FROM json_populate_recordset(NULL::meta, $1) AS m`)
}
