package pgstore

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// nowhere is an offset at which no delivery lies.
const nowhere = -1

// Tables are what is imported.
func Tables() []string { return []string{"keys", "newest", "events"} }

// Import writes rows of a table that another store exported. The deliveries lie in another log now: none of this one is taken for them.
func Import(ctx context.Context, im *postgres.Import, table string, rows []archive.Row) error {
	if table == "keys" {
		for _, row := range rows {
			row["partition"], row["offset"] = nowhere, nowhere
		}
	}
	return im.Insert(ctx, table, rows)
}
