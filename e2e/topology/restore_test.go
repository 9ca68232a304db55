//go:build kafka

package topology_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// tool runs one of PostgreSQL's programs.
func tool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(topology.Root(), "scripts/postgres.sh"), append([]string{"--tool"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// polls reads the folder of the source pages, and waits until the knowledge base holds what its only file says.
func (m move) polls(text string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, m.HTTP+"/v1/sources/pages:poll", strings.NewReader(`{"full":true}`))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		m.t.Fatalf("the poll answers %d, %v", res.StatusCode, err)
	}
	m.Until(time.Minute, "the page says "+text, func() error {
		var got struct{ Chunks []struct{ Text string } }
		if err := m.GetJSON("/v1/documents/pages/page.md?include_chunks=true", &got); err != nil {
			return err
		}
		if len(got.Chunks) != 1 || got.Chunks[0].Text != text {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
}

// What docs/operations.md says of a backup of PostgreSQL: what was delivered before it is a duplicate after a restore without the log, and what came
// after it is applied when it is sent again, or found by a poll.
func TestABackupOfPostgreSQLIsRestored(t *testing.T) {
	pg, err := topology.StartPostgres(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Kill)
	dir, dsn := t.TempDir(), pg.DSN(pg.Addr)
	restored := strings.Replace(dsn, "/postgres?", "/restored?", 1)
	page := filepath.Join(dir, "page.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("It was so.")
	first := filepath.Join(t.TempDir(), "first.yaml")
	if err := os.WriteFile(first, fmt.Appendf(nil, "store: {dsn: %q}\n", dsn), 0o600); err != nil {
		t.Fatal(err)
	}
	move{t: t, Mesh: &mesh.Mesh{TB: t}}.runs(first, "migrate")
	m := move{mesh.Start(t, fmt.Sprintf("  - name: pages\n    preset: generic-hmac\n    secrets: [{value: %s}]\n    connector: {type: folder, scope: [%q]}\nstore: {dsn: %q}\n", mesh.Secret, dir, dsn)), t}
	const documents = 10
	deliver := func(version int64, want int) {
		t.Helper()
		for d := range documents {
			m.sends("docs", fmt.Sprint("doc-", d), version, want)
		}
		for d := range documents {
			m.has("docs", fmt.Sprint("doc-", d), version)
		}
	}
	deliver(1, http.StatusAccepted)
	m.polls("It was so.")
	dump := filepath.Join(t.TempDir(), "hookmesh.dump")
	tool(t, "pg_dump", "--format=custom", "--file="+dump, dsn) // while everything runs
	deliver(2, http.StatusAccepted)
	write("It is another now.")
	m.polls("It is another now.")
	m.Kill()

	tool(t, "createdb", "--maintenance-db="+dsn, "restored")
	tool(t, "pg_restore", "--exit-on-error", "--dbname="+restored, dump)
	file, data := filepath.Join(m.Dir, "config.yaml"), filepath.Join(m.Dir, "data")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(file, []byte(strings.ReplaceAll(string(raw), dsn, restored)), 0o600), os.RemoveAll(filepath.Join(data, "kafka")), os.RemoveAll(filepath.Join(data, "spool")))
	if err != nil {
		t.Fatal(err)
	}
	if out := m.runs(file, "migrate"); strings.Count(out, "was up to date") != 5 {
		t.Errorf("the restored schemas: %s", out)
	}
	m.Up()
	deliver(1, http.StatusOK)
	deliver(2, http.StatusAccepted) // as the source sends again what was lost
	m.polls("It is another now.")
	deliver(3, http.StatusAccepted)
	deliver(3, http.StatusOK)
}
