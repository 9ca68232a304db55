package wiring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	dedupepg "github.com/hookmesh/hookmesh/services/dedupe/pgstore"
	embedderpg "github.com/hookmesh/hookmesh/services/embedder/pgstore"
	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/seal"
	reconcilerpg "github.com/hookmesh/hookmesh/services/reconciler/pgstore"
	sequencerpg "github.com/hookmesh/hookmesh/services/sequencer/pgstore"
	"github.com/hookmesh/hookmesh/services/verifier"
	verifierpg "github.com/hookmesh/hookmesh/services/verifier/pgstore"
)

// importBatch bounds how many rows, and how many bytes of them roughly, are written at once.
const (
	importBatch = 500
	importBytes = 8 << 20
)

// importer writes rows into a service's schema.
type importer struct {
	schema postgres.Schema
	// tables are those that must be empty; stage says that the tables of a stage must be, too.
	tables []string
	stage  bool
	write  func(ctx context.Context, im *postgres.Import, table string, rows []archive.Row) error
}

// Import reads an archive that Export wrote into the empty PostgreSQL of store.dsn, all of it or nothing, and returns how many rows it has
// of each table.
func Import(ctx context.Context, opts Options, path string) (rows map[string]int64, err error) {
	m := &Mesh{opts: opts, cfg: opts.Config, tel: opts.Telemetry.Telemetry}
	keys, err := m.loadKeys()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if err := archive.Check(f, "verifier/sources", opensSecrets(keys)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	partitions := m.cfg.Kafka.Partitions
	place := &sequencerpg.Importer{Partitions: partitions, Of: func(key []byte) int { return kafka.PartitionOf(key, partitions) }}
	services := map[string]importer{
		"verifier":   {verifierpg.Schema(), verifierpg.Tables(), false, verifierpg.Import},
		"dedupe":     {dedupepg.Schema(), dedupepg.Tables(), true, dedupepg.Import},
		"sequencer":  {sequencerpg.Schema(), sequencerpg.Tables(), true, place.Import},
		"embedder":   {embedderpg.Schema(), embedderpg.Tables(), true, embedderpg.Import},
		"reconciler": {reconcilerpg.Schema(), reconcilerpg.Tables(), true, reconcilerpg.Import},
	}
	if err := makeKeyPartitions(ctx, m.cfg.Store.DSN); err != nil {
		return nil, err
	}
	err = postgres.InImport(ctx, m.cfg.Store.DSN, func(im *postgres.Import) error {
		if rows, err = writeRows(ctx, im, services, f); err != nil {
			return err
		}
		if err := im.Use(ctx, sequencerpg.Schema().Name); err != nil {
			return err
		}
		return place.Finish(ctx, im)
	})
	if err != nil {
		return nil, fmt.Errorf("import %s: nothing was kept: %w", path, err)
	}
	return rows, indexVectors(ctx, m.cfg.Store.DSN)
}

// opensSecrets looks at what must be known before anything is written: whether the secrets can be opened.
func opensSecrets(keys *seal.Ring) func(archive.Row) error {
	return func(row archive.Row) error {
		name, _ := row["name"].(string)
		sealed, err := row.Bytes("sealed")
		if err != nil {
			return err
		}
		return verifier.CheckSealed(keys, name, sealed)
	}
}

// makeKeyPartitions lets dedupe make the partitions into which the keys belong.
func makeKeyPartitions(ctx context.Context, dsn string) error {
	store, err := dedupepg.Open(ctx, dsn, dedupepg.Schema())
	if err != nil {
		return err
	}
	return store.Close()
}

// indexVectors makes the indexes of the knowledge base, which are made faster over what is there than along with it.
func indexVectors(ctx context.Context, dsn string) error {
	store, err := embedderpg.Open(ctx, dsn, embedderpg.Schema())
	if err != nil {
		return err
	}
	if err := errors.Join(store.IndexAll(ctx), store.Close()); err != nil {
		return fmt.Errorf("everything is imported, but the vectors are not indexed, and are with the next document: %w", err)
	}
	return nil
}

// writeRows writes what an archive holds, in batches of one table.
func writeRows(ctx context.Context, im *postgres.Import, services map[string]importer, file io.Reader) (map[string]int64, error) {
	for _, s := range services {
		tables := s.tables
		if s.stage {
			tables = append(slices.Clone(tables), "stage_positions", "stage_batches")
		}
		if err := im.Begin(ctx, s.schema, tables...); err != nil {
			if errors.Is(err, postgres.ErrNotEmpty) {
				err = fmt.Errorf("%w: services have worked with it, or something was imported already; import into a database that is new but for `hookmesh migrate`", err)
			}
			return nil, err
		}
	}
	var current string
	var batch []archive.Row
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		name, table, _ := strings.Cut(current, "/")
		s, ok := services[name]
		if !ok {
			return fmt.Errorf("the archive has rows of %s, which this hookmesh does not know: import it with the one that wrote it", current)
		}
		if err := im.Use(ctx, s.schema.Name); err != nil {
			return err
		}
		if err := s.write(ctx, im, table, batch); err != nil {
			return fmt.Errorf("write rows of %s: %w", current, err)
		}
		batch, size = batch[:0], 0
		return nil
	}
	rows, err := archive.Read(file, func(table string, row archive.Row) error {
		if table != current || len(batch) >= importBatch || size >= importBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		current, batch = table, append(batch, row)
		for _, v := range row {
			if text, ok := v.(string); ok {
				size += len(text)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, flush()
}
