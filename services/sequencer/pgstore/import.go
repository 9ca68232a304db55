package pgstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// Tables are what is imported.
func Tables() []string {
	return []string{"documents", "held", "members", "graves", "sources", "events", "partitions"}
}

// Importer imports into a log of some number of partitions.
type Importer struct {
	// Partitions is their number, and Of says in which of them a key lies.
	Partitions int
	Of         func(key []byte) int
	floor      int64
}

// Import writes rows of a table that another store exported.
func (p *Importer) Import(ctx context.Context, im *postgres.Import, table string, rows []archive.Row) error {
	switch table {
	case "documents":
		for _, row := range rows {
			if err := p.place(row); err != nil {
				return err
			}
		}
	case "floor":
		for _, row := range rows {
			floor, err := row.Int("floor")
			if err != nil {
				return err
			}
			p.floor = max(p.floor, floor)
		}
		return nil
	}
	return im.Insert(ctx, table, rows)
}

// place finds out what the store keeps beside a document's state.
func (p *Importer) place(row archive.Row) error {
	key, err := row.Bytes("key")
	if err != nil {
		return err
	}
	raw, err := row.Bytes("state")
	if err != nil {
		return err
	}
	var s sequencer.State
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("decode the state of %q: %w", key, err)
	}
	row["partition"], row["due"], row["held"] = p.Of(key), s.Due(), len(s.Held)
	return nil
}

// Finish counts what waits in each partition. What any of them forgot is below the revisions of new documents in all of them.
func (p *Importer) Finish(ctx context.Context, im *postgres.Import) error {
	_, err := im.Run(ctx, `INSERT INTO partitions (partition, held, floor)
		SELECT n, (SELECT coalesce(sum(held), 0) FROM documents WHERE partition = n), $2 FROM generate_series(0, $1::int - 1) n`, p.Partitions, p.floor)
	return err
}
