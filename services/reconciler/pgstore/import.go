package pgstore

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// Tables are what is imported.
func Tables() []string { return []string{"cursors", "debts", "paid", "dead_letters", "states"} }

// Import writes rows of a table that another store exported.
func Import(ctx context.Context, im *postgres.Import, table string, rows []archive.Row) error {
	return im.Insert(ctx, table, rows)
}
