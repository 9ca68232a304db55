package wiring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	dedupestore "github.com/hookmesh/hookmesh/services/dedupe/sqlitestore"
	embedderstore "github.com/hookmesh/hookmesh/services/embedder/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	reconcilerstore "github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
	sequencerstore "github.com/hookmesh/hookmesh/services/sequencer/sqlitestore"
	verifierstore "github.com/hookmesh/hookmesh/services/verifier/sqlitestore"
)

// ErrNotDrained says that the log or the spool of a data_dir holds events that no database knows of yet.
var ErrNotDrained = errors.New("not everything that was accepted is processed")

// exporter is a store whose state can move to another one.
type exporter interface {
	// Export hands out every row, as of one moment if nobody writes meanwhile, in an order in which they can be imported.
	Export(ctx context.Context, add func(table string, row archive.Row) error) error
	Close() error
}

// progressing is an exporter that is behind a stage.
type progressing interface {
	exporter
	// Progress returns the positions of all partitions, and the outbox of each.
	Progress(ctx context.Context) ([]stage.Position, [][]stage.Pending, error)
}

// exported are the stores of a data_dir, by service.
type exported struct {
	sources                                exporter
	dedupe, sequencer, embedder, reconcile progressing
}

// all are the stores in the order in which they are exported.
func (e exported) all() []namedExporter {
	return []namedExporter{{"verifier", e.sources}, {"dedupe", e.dedupe}, {"sequencer", e.sequencer}, {"embedder", e.embedder}, {"reconciler", e.reconcile}}
}

type namedExporter struct {
	name string
	exporter
}

// Export writes the state under data_dir to a file that must not exist, and returns how many rows it has of each table. Nothing may use the
// data_dir meanwhile, and everything that was accepted must have been processed: with drain, the services run until it is, but for no
// longer, and take no deliveries.
func Export(ctx context.Context, opts Options, path, program string, drain time.Duration) (rows map[string]int64, err error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.Services = config.ServiceNames()
	if _, err := os.Stat(filepath.Join(opts.Config.DataDir, "dedupe.db")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no databases of hookmesh: check data_dir", opts.Config.DataDir)
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s is there already: choose another name", path)
	}
	m := &Mesh{opts: opts, cfg: opts.Config, tel: opts.Telemetry.Telemetry}
	if err := drained(ctx, opts, drain); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.lockData(ctx); err != nil {
		return nil, err
	}
	stores, err := m.openExported(ctx)
	if err != nil {
		return nil, err
	}
	return writeArchive(ctx, path, program, opts.Now(), stores)
}

func (m *Mesh) openExported(ctx context.Context) (e exported, err error) {
	file := func(name string) string { return filepath.Join(m.cfg.DataDir, name) }
	keep := func(s exporter) { m.closers = append(m.closers, s.Close) }
	sources, err1 := verifierstore.Open(ctx, file("sources.db"))
	dedupe, err2 := dedupestore.Open(ctx, file("dedupe.db"))
	sequencer, err3 := sequencerstore.Open(ctx, file("sequencer.db"))
	embedder, err4 := embedderstore.Open(ctx, file("knowledge.db"))
	reconcile, err5 := reconcilerstore.Open(ctx, file("reconciler.db"))
	for _, s := range []struct {
		store exporter
		err   error
	}{{sources, err1}, {dedupe, err2}, {sequencer, err3}, {embedder, err4}, {reconcile, err5}} {
		if s.err == nil {
			keep(s.store)
		}
	}
	return exported{sources, dedupe, sequencer, embedder, reconcile}, errors.Join(err1, err2, err3, err4, err5)
}

// writeArchive writes the file under another name first, so that whatever has its name is whole.
func writeArchive(ctx context.Context, path, program string, now time.Time, stores exported) (rows map[string]int64, err error) {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the archive: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(part)
		}
	}()
	w, err := archive.NewWriter(f, program, now)
	if err != nil {
		return nil, err
	}
	for _, s := range stores.all() {
		err := s.Export(ctx, func(table string, row archive.Row) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return w.Add(s.name+"/"+table, row)
		})
		if err != nil {
			return nil, fmt.Errorf("export the state of %s: %w", s.name, err)
		}
	}
	if rows, err = w.Close(); err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("write the archive: %w", err)
	}
	return rows, os.Rename(part, path)
}

// drained says whether every event that was accepted is in the databases, and lets the services see to it for a time.
func drained(ctx context.Context, opts Options, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := checkDrained(ctx, opts)
		if patience == 0 || !errors.Is(err, ErrNotDrained) || time.Now().After(deadline) {
			return err
		}
		if err := work(ctx, opts, deadline); err != nil {
			return fmt.Errorf("process what is left: %w", err)
		}
	}
}

// work runs the services without an address that anybody knows until the log is processed, or until the deadline.
func work(ctx context.Context, opts Options, deadline time.Time) error {
	opts.Config.HTTP.Listen, opts.Config.GRPC.Listen, opts.Config.Admin.Listen = "127.0.0.1:0", "", ""
	m, err := Start(ctx, opts)
	if err != nil {
		return err
	}
	running, stop := context.WithDeadline(ctx, deadline)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- m.Run(running) }()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for quiet := 0; quiet < 4; {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		if behind, err := m.log.Behind(running, m.readers); err == nil && behind == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
	stop()
	return <-done
}

// checkDrained compares the positions in the databases with the ends of the log, the outboxes with what the stages below have passed, and
// looks into the spool.
func checkDrained(ctx context.Context, opts Options) (err error) {
	m := &Mesh{opts: opts, cfg: opts.Config, tel: opts.Telemetry.Telemetry}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.lockData(ctx); err != nil {
		return err
	}
	if err := m.checkSpool(); err != nil {
		return err
	}
	if err := m.startLog(ctx); err != nil {
		return err
	}
	stores, err := m.openExported(ctx)
	if err != nil {
		return err
	}
	known := map[string]map[int]stage.Position{}
	for _, topic := range kafka.Names() {
		known[topic] = map[int]stage.Position{}
	}
	var outputs []output
	for _, s := range []progressing{stores.dedupe, stores.sequencer, stores.embedder, stores.reconcile} {
		positions, outboxes, err := s.Progress(ctx)
		if err != nil {
			return err
		}
		for i, p := range positions {
			if known[p.Topic] != nil {
				known[p.Topic][p.Partition] = p
			}
			for _, pending := range outboxes[i] {
				outputs = append(outputs, output{p.Epoch, pending})
			}
		}
	}
	return errors.Join(m.checkPositions(ctx, known), m.checkOutputs(known, outputs))
}

// output is one of an outbox, and the numbering that it belongs to.
type output struct {
	epoch string
	stage.Pending
}

func (m *Mesh) checkSpool() error {
	dir := filepath.Join(m.cfg.DataDir, "spool")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := spool.Open(dir, spool.Options{MaxBytes: m.cfg.Gateway.SpoolBytes, Logger: m.tel.Logger})
	if err != nil {
		return err
	}
	empty := s.Empty()
	if err := s.Close(); err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("%w: the spool holds deliveries", ErrNotDrained)
	}
	return nil
}

// checkPositions wants every record of the log to lie before the position of the stage that reads it.
func (m *Mesh) checkPositions(ctx context.Context, known map[string]map[int]stage.Position) error {
	for _, topic := range slices.Sorted(maps.Keys(known)) {
		bounds, err := m.log.Bounds(ctx, topic)
		if err != nil {
			return err
		}
		behind := int64(0)
		for p, b := range bounds {
			next := int64(-1)
			if pos, ok := known[topic][p]; ok {
				next = pos.Next
			}
			behind += max(0, b.End-max(next, b.First))
		}
		if behind > 0 {
			return fmt.Errorf("%w: %d records of %s are left", ErrNotDrained, behind, topic)
		}
	}
	return nil
}

// checkOutputs wants every output to have been passed by the stage below.
func (m *Mesh) checkOutputs(known map[string]map[int]stage.Position, outputs []output) error {
	left := 0
	for _, o := range outputs {
		below := known[o.Output.Topic][m.log.Partition(o.Output.Key)]
		if below.Links[o.epoch] < o.Seq {
			left++
		}
	}
	if left > 0 {
		return fmt.Errorf("%w: %d outputs of a stage are not in the log", ErrNotDrained, left)
	}
	return nil
}
