package pgstore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/pgstore"
	"github.com/hookmesh/hookmesh/services/internal/postgres/postgrestest"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// BenchmarkWrite makes new documents of one chunk searchable, as two workers and a stage with batches of 25 do, and says what processor time
// of PostgreSQL's that takes, beside what a bare INSERT takes in the same run.
func BenchmarkWrite(b *testing.B) {
	const documents, batch, dimensions = 1000, 25, 256
	dsn, schema := postgrestest.Schema(b, pgstore.Schema())
	store, err := pgstore.Open(b.Context(), dsn, schema)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	server := postmaster(b, dsn)
	bare := bareInserts(b, dsn, server, documents)
	for b.Loop() {
		write(b, store, 0, 250, batch, dimensions) // the first fill an empty index
		before := processorOf(server)
		write(b, store, 250, documents, batch, dimensions)
		took := float64((processorOf(server) - before).Microseconds()) / documents
		b.ReportMetric(took, "pg-µs/document")
		b.ReportMetric(bare, "pg-µs/insert")
		b.ReportMetric(took/bare, "inserts/document")
		b.ReportMetric(0, "ns/op")
	}
}

func write(b *testing.B, store *pgstore.Store, from, n, batch, dimensions int) {
	b.Helper()
	ctx, now := b.Context(), time.Now()
	for ; n > 0; from, n = from+batch, n-batch {
		pos, _, err := store.Claim(ctx, "in", 0)
		if err != nil {
			b.Fatal(err)
		}
		err = store.Update(ctx, func(ctx context.Context, tx embedder.Tx) (stage.Advance, error) {
			for i := from; i < from+batch; i++ {
				c := &eventv1.Change{Revision: int64(i + 1), Event: &eventv1.Event{Id: fmt.Sprint("event-", i), Source: "docs", DocumentId: fmt.Sprint("page-", i), Version: "1"}}
				if _, _, err := tx.Enqueue(ctx, c, []stage.Header{{Key: "traceparent", Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}}, now); err != nil {
					return stage.Advance{}, err
				}
				if err := tx.SetRecord(ctx, &embedderv1.EventRecord{Id: c.GetEvent().GetId()}, now); err != nil {
					return stage.Advance{}, err
				}
			}
			return stage.Advance{Position: pos}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { work(b, store, now, dimensions) })
		}
		wg.Wait()
	}
}

func work(b *testing.B, store *pgstore.Store, now time.Time, dimensions int) {
	ctx := b.Context()
	for {
		job, err := store.Take(ctx, now, time.Minute, nil)
		if err != nil {
			b.Error(err)
		}
		if job == nil {
			return
		}
		id := job.DocumentID
		if _, err := store.Vectors(ctx, job.Source, id, "model"); err != nil {
			b.Error(err)
		}
		text := "The text of " + id + ", which says in a hundred and fifty letters or so what a page of a wiki about a machine, its owner and their troubles may say."
		d := embedder.Document{Title: "Title of " + id, URL: "https://wiki/" + id, Version: "1", TextHash: sha256.Sum256([]byte(text)), Model: "model",
			Pieces: []embedder.Piece{{Text: text, Hash: sha256.Sum256([]byte(text)), Vector: around(rand.New(rand.NewPCG(rand.Uint64(), 1)), rand.N(50), dimensions)}}}
		if err := store.Replace(ctx, job, d, &embedderv1.EventRecord{Id: job.Change.GetEvent().GetId()}, now); err != nil {
			b.Error(err)
		}
	}
}

// bareInserts is what processor time of the server's an INSERT of a row takes, in a transaction of its own that does not wait for the disk.
func bareInserts(b *testing.B, dsn, server string, n int) float64 {
	b.Helper()
	pool, err := pgxpool.New(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	conn, err := pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(b.Context(), `CREATE TEMP TABLE bare (id bigint PRIMARY KEY, text text)`); err != nil {
		b.Fatal(err)
	}
	before := processorOf(server)
	for i := range n {
		if _, err := conn.Exec(b.Context(), `INSERT INTO bare VALUES ($1, $2)`, i, "text"); err != nil {
			b.Fatal(err)
		}
	}
	return float64((processorOf(server) - before).Microseconds()) / float64(n)
}

// postmaster is the server's first process, which must be of this machine.
func postmaster(b *testing.B, dsn string) string {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(b.Context()) }()
	var pid int
	if err := conn.QueryRow(b.Context(), `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
		b.Fatal(err)
	}
	fields := stat(strconv.Itoa(pid))
	if len(fields) < 15 {
		b.Skip("the server is not a process of this machine, so its processor time cannot be measured")
	}
	return fields[1]
}

// stat are the fields of /proc/PID/stat from the process' state on.
func stat(pid string) []string {
	raw, _ := os.ReadFile(filepath.Join("/proc", pid, "stat")) // it may be gone
	_, after, _ := strings.Cut(string(raw), ") ")
	return strings.Fields(after)
}

// processorOf is the processor time of the server's processes, also of those that ended.
func processorOf(server string) time.Duration {
	ticks := 0
	add := func(fields []string, columns ...int) {
		for _, c := range columns {
			if len(fields) > c {
				n, _ := strconv.Atoi(fields[c]) // whole numbers, says proc(5)
				ticks += n
			}
		}
	}
	add(stat(server), 11, 12, 13, 14)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if fields := stat(filepath.Base(dir)); len(fields) > 1 && fields[1] == server {
			add(fields, 11, 12)
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
