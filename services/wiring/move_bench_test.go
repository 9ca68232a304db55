package wiring

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// dimensions is how long the built-in model's vectors are.
const dimensions = 256

// BenchmarkMove exports MOVE_DOCUMENTS (default 50,000) documents, of one chunk and one delivery each, and imports them into PostgreSQL, and
// a tenth of them before: the memory should be the same.
func BenchmarkMove(b *testing.B) {
	n := 50_000
	if text := os.Getenv("MOVE_DOCUMENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for _, size := range []int{n / 10, n} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { moveMany(b, size) })
	}
}

func moveMany(b *testing.B, n int) {
	cfg := config.Default()
	cfg.DataDir, cfg.Kafka.Partitions = b.TempDir(), oldPartitions
	cfg.Verifier.Keys = []config.Key{{Value: fmt.Sprintf("%064d", 7)}}
	knowMany(b, cfg, n)
	path := filepath.Join(b.TempDir(), "state.gz")
	for b.Loop() {
		stop := resident()
		began := time.Now()
		moved, err := Export(b.Context(), moveOptions(cfg), path, "test", 0)
		if err != nil || moved["embedder/chunks"] != int64(n) {
			b.Fatalf("%v, %v", moved, err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/export")
		b.ReportMetric(stop(), "MiB/export")
		file, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(file.Size())/float64(n), "B/document")

		cfg := cfg
		cfg.Store.DSN, cfg.DataDir = database(b), b.TempDir()
		if err := Migrate(b.Context(), cfg.Store.DSN, func(string, int, int) {}); err != nil {
			b.Fatal(err)
		}
		stop = resident()
		began = time.Now()
		rows, err := Import(b.Context(), moveOptions(cfg), path, fast)
		if err != nil || rows["embedder/chunks"] != int64(n) || rows["dedupe/keys"] != int64(n) || rows["sequencer/documents"] != int64(n) {
			b.Fatalf("%v, %v", rows, err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/import")
		b.ReportMetric(stop(), "MiB/import")
		b.ReportMetric(0, "ns/op")
	}
}

// knowMany fills the databases of a data_dir.
func knowMany(b testing.TB, cfg config.Config, n int) {
	s, stop := openStores(b, cfg)
	until := time.Now().Add(48 * time.Hour)
	id := func(i int) string { return fmt.Sprintf("page-%07d", i) }
	const batch = 1000
	for from := 0; from < n; from += batch {
		update(s, s.dedupe, kafka.TopicAccepted, 0, func(ctx context.Context, tx dedupe.Tx) error {
			for i := from; i < min(n, from+batch); i++ {
				err := tx.Remember(ctx, dedupe.KeyOf("docs", id(i)), dedupe.First{EventID: id(i), Offset: int64(i), Expires: until})
				if err == nil {
					err = tx.SetNewest(ctx, kafka.DocumentKey("docs", id(i)), dedupe.Newest{EventID: id(i), Version: "7", Expires: until})
				}
				if err == nil {
					err = tx.Record(ctx, &dedupev1.EventRecord{Id: id(i), Source: "docs", DocumentId: id(i), DecidedAt: timestamppb.New(moment)})
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		update(s, s.sequencer, kafka.TopicUnique, 0, func(ctx context.Context, tx sequencer.Tx) error {
			for i := from; i < min(n, from+batch); i++ {
				err := tx.SetDocument(ctx, "docs/"+id(i), 0, sequencer.State{Last: 7, HasLast: true, Revision: int64(i) + 1})
				if err == nil {
					err = tx.SetRecord(ctx, &sequencerv1.EventRecord{Id: id(i)}, moment)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	stop()
	knowChunks(b, filepath.Join(cfg.DataDir, "knowledge.db"), n, id)
}

// knowChunks fills the knowledge base past its store, which would embed document after document.
func knowChunks(b testing.TB, path string, n int, id func(int) string) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	exec := func(query string, args ...any) {
		if _, err := tx.ExecContext(b.Context(), query, args...); err != nil {
			b.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		vector := make([]byte, 4*dimensions)
		for at := 0; at < len(vector); at += 4 { // numbers between -1 and 1 that look like a model's
			vector[at], vector[at+1], vector[at+2], vector[at+3] = byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()), 0x3d|byte(rng.Uint32()&0x80)
		}
		text := fmt.Sprintf("The text of %s, which says in a hundred and fifty letters or so what a page of a wiki about machine %d, its owner %d and their troubles may say.", id(i), rng.IntN(1000), rng.IntN(1000))
		exec(`INSERT INTO documents (id, source, document, revision, state, title, version, event, updated) VALUES (?, 'docs', ?, ?, 1, ?, '7', ?, 1)`, i+1, id(i), i+1, "Title of "+id(i), id(i))
		exec(`INSERT INTO chunks (doc, ordinal, path, text, hash, vector) VALUES (?, 0, '[]', ?, ?, ?)`, i+1, text, fmt.Appendf(nil, "%032d", i), vector)
		exec(`INSERT INTO events (id, at, record) VALUES (?, 1, ?)`, id(i), []byte{})
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// resident samples how much memory the process has until it is stopped, in MiB: SQLite's lies outside of the heap.
func resident() (stop func() float64) {
	debug.FreeOSMemory()
	ctx, cancel := context.WithCancel(context.Background())
	var highest float64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			raw, _ := os.ReadFile("/proc/self/statm") // 0 where there is none
			if fields := strings.Fields(string(raw)); len(fields) > 1 {
				pages, _ := strconv.ParseFloat(fields[1], 64)
				highest = max(highest, pages*float64(os.Getpagesize())/(1<<20))
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	return func() float64 { cancel(); wg.Wait(); return highest }
}
