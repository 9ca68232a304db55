package wiring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	embedderpg "github.com/hookmesh/hookmesh/services/embedder/pgstore"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// importChild tells the test's own program to be an import that can be killed: archive and DSN, a line each.
const importChild = "HOOKMESH_TEST_IMPORT"

// killable is an importing process, which prints a line per report.
func killable(t *testing.T, path, dsn string) (lines *bufio.Scanner, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAnImportThatIsKilledLeavesNothingAndMayBeRunAgain$")
	cmd.Env = append(os.Environ(), importChild+"="+path+"\n"+dsn)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(out), func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // it was killed
	}
}

func moved(path, dsn, dir string, report func(Progress)) func(ctx context.Context) (map[string]int64, error) {
	cfg := config.Default()
	cfg.Store.DSN, cfg.DataDir, cfg.Kafka.Partitions = dsn, dir, newPartitions
	cfg.Verifier.Keys = []config.Key{{Value: strings.Repeat("07", 32)}}
	return func(ctx context.Context) (map[string]int64, error) {
		return Import(ctx, moveOptions(cfg), path, Moving{IndexMemory: 64 << 20, Report: report})
	}
}

// The process is killed after a random one of all its reports, several times; the last import finds a database in which nothing is left.
func TestAnImportThatIsKilledLeavesNothingAndMayBeRunAgain(t *testing.T) {
	if child := os.Getenv(importChild); child != "" {
		path, dsn, _ := strings.Cut(child, "\n")
		_, err := moved(path, dsn, t.TempDir(), func(p Progress) { fmt.Println(p.Doing) })(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	const documents = 1500
	cfg := config.Default()
	cfg.DataDir, cfg.Kafka.Partitions = t.TempDir(), oldPartitions
	cfg.Verifier.Keys = []config.Key{{Value: strings.Repeat("07", 32)}}
	whole, dsn := database(t), database(t)
	knowMany(t, cfg, documents)
	path := filepath.Join(t.TempDir(), "state.gz")
	exported, err := Export(t.Context(), moveOptions(cfg), path, "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{whole, dsn} {
		if err := Migrate(t.Context(), dsn, func(string, int, int) {}); err != nil {
			t.Fatal(err)
		}
	}
	reports := 0
	if _, err := moved(path, whole, t.TempDir(), func(Progress) { reports++ })(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		after := 1 + rand.N(reports)
		lines, kill := killable(t, path, dsn)
		last := ""
		for range after {
			if !lines.Scan() {
				kill()
				t.Fatalf("the import ended by itself after %q", last)
			}
			last = lines.Text()
		}
		kill()
		t.Logf("killed at report %d of %d: %s", after, reports, last)
	}
	waits := 0
	rows, err := moved(path, dsn, t.TempDir(), func(p Progress) {
		if !strings.HasPrefix(p.Doing, "indexing vectors") {
			return
		}
		waits++
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if store, err := embedderpg.Open(ctx, dsn, embedderpg.Schema()); err == nil {
			_ = store.Close()
			t.Error("a service that starts before there is an index does not wait")
		}
	})(t.Context())
	if err != nil || waits == 0 {
		t.Fatalf("%v; %d times a service was started", err, waits)
	}
	for table, n := range exported {
		if rows[table] != n {
			t.Errorf("%s: %d rows were exported, %d imported", table, n, rows[table])
		}
	}
	same(t, whole, dsn)
}

// same wants two databases to have the same numbers of rows, indexes and constraints.
func same(t *testing.T, dsns ...string) {
	t.Helper()
	var all []string
	for _, dsn := range dsns {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var found string
		err = conn.QueryRow(t.Context(), `SELECT concat_ws(E'\n',
			(SELECT string_agg(indexdef, E'\n' ORDER BY indexdef) FROM pg_indexes WHERE schemaname LIKE 'hookmesh%'),
			(SELECT string_agg(conrelid::regclass || ' ' || pg_get_constraintdef(oid), E'\n' ORDER BY conrelid::regclass::text, conname) FROM pg_constraint WHERE connamespace::regnamespace::text LIKE 'hookmesh%'),
			(SELECT string_agg(c.oid::regclass || ' ' || c.reltuples, E'\n' ORDER BY c.oid::regclass::text) FROM pg_class c WHERE c.relnamespace::regnamespace::text LIKE 'hookmesh%' AND relkind = 'r' AND reltuples > 0),
			(SELECT count(*) FROM hookmesh_embedder.chunks JOIN hookmesh_embedder.documents d ON d.id = doc WHERE words @@ to_tsquery('english', 'wiki')))`).Scan(&found)
		if err = errors.Join(err, conn.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		all = append(all, found)
	}
	if all[0] != all[1] || !strings.Contains(all[0], "chunks_half_256") || !strings.Contains(all[0], "chunks_words") || !strings.Contains(all[0], "FOREIGN KEY (doc)") || !strings.HasSuffix(all[0], "\n1500") {
		t.Errorf("%s\nafter imports that were killed:\n%s", all[0], all[1])
	}
}
