package wiring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

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

// Moving says how state is moved.
type Moving struct {
	// IndexMemory bounds how many bytes of PostgreSQL's memory an index may take while it is made. One over vectors that do not fit is made
	// many times slower.
	IndexMemory int64
	// Report hears how far the move is, often; nil: nobody does. It is called by one goroutine at a time.
	Report func(Progress)
}

// Progress is how far a move is.
type Progress struct {
	// Doing is the table, or what is done with it.
	Doing string
	// Done of Total rows; Total 0: nobody knows how many there are.
	Done, Total int64
}

func (m Moving) report(doing string, done, total int64) {
	if m.Report != nil {
		m.Report(Progress{doing, done, total})
	}
}

// Import reads an archive that Export wrote into the empty PostgreSQL of store.dsn, all of it or nothing, and returns how many rows it has
// of each table. What services start meanwhile waits until it is over.
func Import(ctx context.Context, opts Options, path string, how Moving) (rows map[string]int64, err error) {
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
	how.report("checking the archive", 0, 0)
	totals, err := archive.Check(f, "verifier/sources", opensSecrets(keys))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	partitions := m.cfg.Kafka.Partitions
	place := &sequencerpg.Importer{Partitions: partitions, Of: func(key []byte) int { return kafka.PartitionOf(key, partitions) }}
	services := importers{
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
		if err := services.begin(ctx, im); err != nil {
			return err
		}
		if rows, err = services.write(ctx, im, f, totals, how); err != nil {
			return err
		}
		if err := im.Use(ctx, sequencerpg.Schema().Name); err != nil {
			return err
		}
		if err := place.Finish(ctx, im); err != nil {
			return err
		}
		return services.index(ctx, im, m.cfg.Store.DSN, how)
	})
	if err != nil {
		return nil, fmt.Errorf("import %s: nothing was kept: %w", path, err)
	}
	return rows, nil
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

// importers are the services whose state is imported.
type importers map[string]importer

// begin wants every schema to be empty, and keeps it for the import.
func (services importers) begin(ctx context.Context, im *postgres.Import) error {
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		tables := s.tables
		if s.stage {
			tables = append(slices.Clone(tables), "stage_positions", "stage_batches")
		}
		if err := im.Begin(ctx, s.schema, tables...); err != nil {
			if errors.Is(err, postgres.ErrNotEmpty) {
				err = fmt.Errorf("%w: services have worked with it, or something was imported already; import into a database that is new but for `hookmesh migrate`", err)
			}
			return err
		}
	}
	return nil
}

// batch are rows of one table.
type batch struct {
	table string
	rows  []archive.Row
	size  int
}

// write writes what an archive holds, in batches of one table: while the server takes one, the next is read.
func (services importers) write(ctx context.Context, im *postgres.Import, file io.Reader, totals map[string]int64, how Moving) (rows map[string]int64, err error) {
	batches := make(chan batch)
	group, working := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		defer close(batches)
		rows, err = readBatches(file, func(b batch) error {
			select {
			case batches <- b:
				return nil
			case <-working.Done():
				return context.Cause(working)
			}
		})
		return err
	})
	group.Go(func() error {
		written := map[string]int64{}
		for b := range batches {
			if err := services.writeBatch(ctx, im, b); err != nil {
				return err
			}
			written[b.table] += int64(len(b.rows))
			how.report(b.table, written[b.table], totals[b.table])
		}
		return nil
	})
	err = group.Wait()
	return rows, err
}

func (services importers) writeBatch(ctx context.Context, im *postgres.Import, b batch) error {
	name, table, _ := strings.Cut(b.table, "/")
	s, ok := services[name]
	if !ok {
		return fmt.Errorf("the archive has rows of %s, which this hookmesh does not know: import it with the one that wrote it", b.table)
	}
	if err := im.Use(ctx, s.schema.Name); err != nil {
		return err
	}
	if err := s.write(ctx, im, table, b.rows); err != nil {
		return fmt.Errorf("write rows of %s: %w", b.table, err)
	}
	return nil
}

// readBatches hands out what an archive holds, bounded in rows and bytes.
func readBatches(file io.Reader, add func(batch) error) (map[string]int64, error) {
	var b batch
	flush := func(next string) error {
		full := b
		b = batch{table: next}
		if len(full.rows) == 0 {
			return nil
		}
		return add(full)
	}
	rows, err := archive.Read(file, func(table string, row archive.Row) error {
		if table != b.table || len(b.rows) >= importBatch || b.size >= importBytes {
			if err := flush(table); err != nil {
				return err
			}
		}
		b.rows = append(b.rows, row)
		for _, v := range row {
			switch v := v.(type) {
			case string:
				b.size += len(v)
			case json.RawMessage:
				b.size += len(v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, flush("")
}

// indexing is how much memory the indexes have that are not over vectors.
const indexing = 256 << 20

// index makes the indexes over all that was written.
func (services importers) index(ctx context.Context, im *postgres.Import, dsn string, how Moving) error {
	if err := im.AllowMemory(ctx, min(how.IndexMemory, indexing)); err != nil {
		return err
	}
	tables := map[string][]string{}
	for _, s := range services {
		tables[s.schema.Name] = s.tables
	}
	how.report("making the indexes but those over vectors", 0, 0)
	if err := im.Finish(ctx, tables); err != nil {
		return err
	}
	if err := im.Use(ctx, embedderpg.Schema().Name); err != nil {
		return err
	}
	all, err := embedderpg.ImportedVectors(ctx, im)
	if err != nil {
		return fmt.Errorf("count the vectors: %w", err)
	}
	for _, v := range all {
		doing := fmt.Sprintf("indexing vectors of %d dimensions", v.Dimensions)
		if need := v.Memory(); need > how.IndexMemory {
			doing += fmt.Sprintf(" (slow: they want %d MB of memory for that, and are allowed %d)", need>>20, how.IndexMemory>>20)
		}
		how.report(doing, 0, v.Count)
		watched, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { im.Watch(watched, dsn, func(rows int64) { how.report(doing, rows, v.Count) }) })
		err := embedderpg.IndexVectors(ctx, im, v, how.IndexMemory)
		stop()
		watching.Wait()
		if err != nil {
			return fmt.Errorf("index vectors of %d dimensions: %w", v.Dimensions, err)
		}
	}
	return nil
}
