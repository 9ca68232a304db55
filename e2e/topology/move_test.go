//go:build kafka

package topology_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// move is an operator who moves from one machine to production.
type move struct {
	*mesh.Mesh
	t *testing.T
}

const numbered = `  - name: numbers
    preset: generic-hmac
    secrets: [{value: %s}]
    content: {inline: content, title: title}
    ordering: {mode: contiguous, sequence: body.sequence, gap_timeout: 1h}
    rate: {per_second: -1}
`

// sends delivers a change and wants a status.
func (m move) sends(source, document string, version int64, want int) {
	m.t.Helper()
	raw, err := json.Marshal(map[string]any{
		"document_id": document, "event_id": fmt.Sprint(source, document, version), "action": "updated", "sequence": version,
		"title": "Title of " + document, "content": fmt.Sprintf("The text of %s in version %d.", document, version),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	status, body, err := m.SendTo(source, raw, mesh.Sign(raw))
	if err != nil || status != want {
		m.t.Fatalf("%s/%s, version %d: %d %s %v; want %d", source, document, version, status, body, err, want)
	}
}

// has waits until a document is current in a version.
func (m move) has(source, document string, version int64) {
	m.t.Helper()
	m.Until(time.Minute, fmt.Sprintf("%s/%s has version %d", source, document, version), func() error {
		var got struct {
			Document struct{ State, Version string }
		}
		if err := m.GetJSON("/v1/documents/"+source+"/"+document, &got); err != nil {
			return err
		}
		if got.Document.State != "DOCUMENT_STATE_CURRENT" || got.Document.Version != fmt.Sprint(version) {
			return fmt.Errorf("it is %+v", got.Document)
		}
		return nil
	})
}

// holds waits until exactly one document of numbers waits for version 2.
func (m move) holds() {
	m.t.Helper()
	m.Until(time.Minute, "the gap is known", func() error {
		out, errs, code := m.Command("order", "gaps")
		if code != 0 || !strings.Contains(out, "numbers/d  missing 2, 1 wait") {
			return fmt.Errorf("%s %s", out, errs)
		}
		return nil
	})
}

// knows is what the knowledge base says of everything that was delivered: documents, with the times at which they were embedded, and an answer.
func (m move) knows(documents []string) string {
	m.t.Helper()
	var all strings.Builder
	for _, path := range append(documents, "/v1/search?query=The+text+of+doc-3&limit=3") {
		_, raw, err := m.Get(m.HTTP + path)
		var v any
		if err = errors.Join(err, json.Unmarshal(raw, &v)); err != nil {
			m.t.Fatal(err)
		}
		forgetScores(v)
		if raw, err = json.Marshal(v); err != nil {
			m.t.Fatal(err)
		}
		all.Write(append(raw, '\n'))
	}
	return all.String()
}

// forgetScores removes how near a result is: the two stores weigh words in ways of their own.
func forgetScores(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "score")
		for _, inner := range v {
			forgetScores(inner)
		}
	case []any:
		for _, inner := range v {
			forgetScores(inner)
		}
	}
}

// runs runs the program with a configuration file, wants it to succeed, and returns what it prints but for how far it is.
func (m move) runs(file string, args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, mesh.Binary(m.t), append(args, "--config", file)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("hookmesh %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// unzipped is what a compressed file holds.
func unzipped(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// toProduction writes the configuration of the new place: the same sources over Kafka and PostgreSQL, with the old key.
func (m move) toProduction(brokers, dsn string) (old, file string) {
	m.t.Helper()
	file, old = filepath.Join(m.Dir, "config.yaml"), filepath.Join(m.Dir, "old.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	data := filepath.Join(m.Dir, "data")
	production := strings.Replace(string(raw), fmt.Sprintf("data_dir: %q", data), fmt.Sprintf("data_dir: %q\nstore: {dsn: %q}\nkafka: {brokers: [%q], partitions: 4, replication_factor: 1}\nverifier: {keys: [{file: %q}]}",
		filepath.Join(m.Dir, "new"), dsn, brokers, filepath.Join(data, "secrets.key")), 1)
	if err := errors.Join(os.WriteFile(old, raw, 0o600), os.WriteFile(file, []byte(production), 0o600)); err != nil {
		m.t.Fatal(err)
	}
	return old, file
}

// What was delivered to one machine is a duplicate after the move to Apache Kafka and PostgreSQL, what waited waits on, and nothing is embedded again.
func TestApacheKafkaAndPostgresTakeOverWhatOneMachineKnew(t *testing.T) {
	kafka, err := topology.StartKafka(t.Context(), t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Kill)
	pg, err := topology.StartPostgres(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Kill)
	m := move{mesh.Start(t, fmt.Sprintf(numbered, mesh.Secret)), t}
	t.Setenv("HOOKMESH_SECRET", mesh.Secret)
	definition := filepath.Join(m.Dir, "made.yaml")
	if err := os.WriteFile(definition, []byte("preset: generic-hmac\nsettings: {ordering: monotonic}\ncontent: {inline: content, title: title}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := m.Command("sources", "create", "made", "--file", definition); code != 0 {
		t.Fatal(out, errs)
	}
	const documents = 10
	deliver := func(want int) {
		t.Helper()
		for d := range documents {
			m.sends("docs", fmt.Sprint("doc-", d), 1, want)
			m.sends("docs", fmt.Sprint("doc-", d), 2, want)
		}
		m.sends("made", "m", 1, want)
		m.sends("numbers", "d", 1, want)
		m.sends("numbers", "d", 3, want)
	}
	m.Until(time.Minute, "the new source is known", func() error {
		status, _, err := m.SendTo("made", []byte("{}"), "")
		if err == nil && status != http.StatusForbidden {
			err = fmt.Errorf("it answers %d", status)
		}
		return err
	})
	deliver(http.StatusAccepted)
	paths := []string{"/v1/documents/made/m", "/v1/documents/numbers/d"}
	for d := range documents {
		m.has("docs", fmt.Sprint("doc-", d), 2)
		paths = append(paths, fmt.Sprint("/v1/documents/docs/doc-", d))
	}
	m.has("made", "m", 1)
	m.has("numbers", "d", 1)
	m.holds()
	before := m.knows(paths)
	m.Kill()

	old, file := m.toProduction(kafka.Brokers[0], pg.DSN(pg.Addr))
	archive := filepath.Join(m.Dir, "state.gz")
	moved := m.runs(old, "export", archive, "--drain", "1m")
	m.runs(file, "migrate")
	if got := m.runs(file, "import", archive); got != moved || !strings.Contains(got, "dedupe/keys") {
		t.Fatalf("exported:\n%s\nimported:\n%s", moved, got)
	}
	if text := unzipped(t, archive); strings.Contains(text, mesh.Secret) || !strings.Contains(text, "The text of doc-3") {
		t.Fatal("the archive holds a secret, or not what it should")
	}

	m.Up()
	m.holds()
	deliver(http.StatusOK)
	if after := m.knows(paths); after != before {
		t.Errorf("before the move:\n%s\nafter it:\n%s", before, after)
	}
	m.sends("numbers", "d", 2, http.StatusAccepted) // what was waited for
	m.has("numbers", "d", 3)
	m.sends("docs", "doc-0", 3, http.StatusAccepted) // its revision goes on where it was
	m.has("docs", "doc-0", 3)
}
