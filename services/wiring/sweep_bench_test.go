package wiring_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/embedding/static"
	embedderstore "github.com/hookmesh/hookmesh/services/embedder/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
	reconcilerstore "github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
)

// everything is a source with n documents, listed in an order that is none, a thousand at a time. Every hundredth differs from what is
// known: it is newer, unknown, or (past n) gone.
type everything struct{ n int }

// List implements connector.Lister.
func (e everything) List(_ context.Context, cursor string) (connector.Page, error) {
	from, _ := strconv.Atoi(cursor)
	to := min(e.n, from+1000)
	page := connector.Page{Next: strconv.Itoa(to), More: to < e.n}
	for i := from; i < to; i++ {
		number := i * 7919 % e.n // a walk through all of them, since 7919 divides no power of ten
		c := connector.Change{DocumentID: fmt.Sprintf("page-%07d", number), Version: "7"}
		if number%100 == 0 {
			c.Version = "8"
		}
		page.Changes = append(page.Changes, c)
	}
	return page, nil
}

// Fetch implements connector.Fetcher.
func (everything) Fetch(context.Context, connector.Ref) (connector.Document, error) {
	return connector.Document{}, connector.ErrGone
}

// counted counts what is produced.
type counted struct{ n atomic.Int64 }

func (c *counted) Produce(_ context.Context, outs []stage.Output) error {
	c.n.Add(int64(len(outs)))
	return nil
}

// know fills the embedder's database with n documents, of which one in a thousand is not at the source.
func know(b *testing.B, path string, n int) {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	insert, err := tx.PrepareContext(b.Context(), `INSERT INTO documents (source, document, revision, state, version, updated) VALUES ('s', ?, 7, 1, '7', 1)`)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = insert.Close() }()
	for i := range n {
		id := fmt.Sprintf("page-%07d", i)
		if i%1000 == 1 {
			id = fmt.Sprintf("gone-%07d", i)
		}
		if _, err := insert.ExecContext(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// peak samples the heap until it is stopped.
func peak() (stop func() uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	var highest uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			highest = max(highest, m.HeapAlloc)
			<-time.After(50 * time.Millisecond)
		}
	})
	return func() uint64 { cancel(); wg.Wait(); return highest }
}

// BenchmarkSweep compares SWEEP_DOCUMENTS (default a million) documents of a source with as many known ones over gRPC and SQLite, and
// a tenth of them before: the heap should be the same.
func BenchmarkSweep(b *testing.B) {
	n := 1_000_000
	if text := os.Getenv("SWEEP_DOCUMENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for _, size := range []int{n / 10, n} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { sweep(b, size) })
	}
}

func sweep(b *testing.B, n int) {
	dir := b.TempDir()
	path := filepath.Join(dir, "knowledge.db")
	store, err := embedderstore.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	know(b, path, n)
	model, err := static.New()
	if err != nil {
		b.Fatal(err)
	}
	knowledge, err := embedder.New(embedder.Deps{Store: store, Model: model, Telemetry: telemetry.Nop(), Now: time.Now}, embedder.Config{})
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	embedderv1.RegisterKnowledgeServiceServer(server, knowledge)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	states, err := reconcilerstore.Open(b.Context(), filepath.Join(dir, "reconciler.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = states.Close() }()
	produced := &counted{}
	src := reconciler.Source{Source: config.Source{Name: "s", Poll: config.Poll{Interval: time.Hour, SweepInterval: time.Hour}}, Connector: connector.Connector{Lister: everything{n}, Fetcher: everything{n}}}
	service, err := reconciler.New(reconciler.Deps{Store: states, Producer: produced, Telemetry: telemetry.Nop(), Knowledge: embedderv1.NewKnowledgeServiceClient(conn), Now: time.Now},
		reconciler.Config{BackfillPerSecond: -1}, []reconciler.Source{src})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	for b.Loop() {
		stop := peak()
		began := time.Now()
		res, err := service.SweepSource(b.Context(), &reconcilerv1.SweepSourceRequest{Source: "s"})
		if err != nil {
			b.Fatal(err)
		}
		r := res.GetReport()
		if want := int64(n); r.GetListed() != want || r.GetKnown() != want || r.GetExtra() != want/1000 || r.GetMissing() != want/1000 || r.GetStale() != want/100 || r.GetHealed() != produced.n.Load() {
			b.Errorf("%v", r)
		}
		b.ReportMetric(float64(stop())/(1<<20), "heap-MiB")
		took := time.Since(began)
		b.ReportMetric(took.Seconds(), "s/sweep")
		b.ReportMetric(float64(n)/took.Seconds(), "documents/s")
		b.ReportMetric(0, "ns/op")
		produced.n.Store(0)
	}
}
