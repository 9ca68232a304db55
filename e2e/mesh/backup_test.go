package mesh_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// pages are a source that is only polled: a folder with a page per file.
func pages(t *testing.T) (dir, config string) {
	dir = t.TempDir()
	return dir, fmt.Sprintf(`  - name: pages
    preset: generic-hmac
    secrets: [{value: %s}]
    connector: {type: folder, scope: [%q]}
`, mesh.Secret, dir)
}

// write makes files of a folder say something; empty: they are deleted.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		if text == "" {
			err = os.Remove(filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// poll reads the whole folder, looks for what is not there any more, and waits until the knowledge base holds what its files say.
func poll(t *testing.T, m *mesh.Mesh, files map[string]string) {
	t.Helper()
	for _, call := range []string{"poll", "sweep"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/v1/sources/pages:"+call, strings.NewReader(map[string]string{"poll": `{"full":true}`, "sweep": `{}`}[call]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s answers %d, %v", call, res.StatusCode, err)
		}
	}
	m.Until(60*time.Second, "the knowledge base holds the folder", func() error {
		for name, text := range files {
			var got document
			err := m.GetJSON("/v1/documents/pages/"+name+"?include_chunks=true", &got)
			switch {
			case err != nil:
				return err
			case text == "" && got.Document.State != "DOCUMENT_STATE_DELETED":
				return fmt.Errorf("%s is %s", name, got.Document.State)
			case text != "" && (len(got.Chunks) != 1 || got.Chunks[0].Text != text):
				return fmt.Errorf("%s: %+v", name, got)
			}
		}
		return nil
	})
}

// What was in the knowledge base when the backup began is there after a restore without the log; what was delivered before is a
// duplicate still, and what comes after it, also again, is applied. What only a poll finds is healed by a poll.
func TestABackupOfARunningMeshIsRestored(t *testing.T) {
	dir, source := pages(t)
	m := mesh.Start(t, source)
	before := map[string]string{"stays.md": "It stays.", "changes.md": "It was so.", "goes.md": "It goes."}
	after := map[string]string{"stays.md": "It stays.", "changes.md": "It is another now.", "comes.md": "It is new.", "goes.md": ""}
	const documents = 30
	send := func(version int64, status int) {
		t.Helper()
		for d := range documents {
			got, raw, err := m.Send(edit(fmt.Sprint("doc-", d), version))
			if err != nil || got != status {
				t.Fatalf("doc-%d, version %d: %d %s %v; want %d", d, version, got, raw, err, status)
			}
		}
	}
	wait := func(version int64) {
		t.Helper()
		m.Until(60*time.Second, fmt.Sprint("version ", version, " is everywhere"), func() error {
			for d := range documents {
				var got document
				if err := m.GetJSON(fmt.Sprint("/v1/documents/docs/doc-", d), &got); err != nil {
					return err
				}
				if got.Document.State != "DOCUMENT_STATE_CURRENT" || got.Document.Version != fmt.Sprint(version) {
					return fmt.Errorf("doc-%d is %s at version %s", d, got.Document.State, got.Document.Version)
				}
			}
			return nil
		})
	}
	send(1, http.StatusAccepted)
	wait(1)
	write(t, dir, before)
	poll(t, m, before)
	backup, data := filepath.Join(m.Dir, "backup"), filepath.Join(m.Dir, "data")
	out, err := exec.CommandContext(context.Background(), mesh.Binary(t), "backup", backup, "--config", filepath.Join(m.Dir, "config.yaml")).CombinedOutput()
	if want := "reconciler.db\nknowledge.db\nsequencer.db\nsequencer.db-runs\ndedupe.db\ndedupe.db-runs\nsources.db\n"; err != nil || !strings.HasPrefix(string(out), want) {
		t.Fatalf("%s %v", out, err)
	}
	send(2, http.StatusAccepted)
	wait(2)
	write(t, dir, after)
	poll(t, m, after)
	m.Kill()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, data); err != nil {
		t.Fatal(err)
	}
	m.Up()
	wait(1)
	send(1, http.StatusOK)
	send(2, http.StatusAccepted) // as the source sends again what was lost
	wait(2)
	send(3, http.StatusAccepted)
	wait(3)
	send(3, http.StatusOK)
	poll(t, m, after)
}

// A sequencer that comes back older than the knowledge base, its log lost, would give out revisions that the knowledge base has: it begins above them.
func TestASequencerOlderThanTheKnowledgeBaseSkipsNothing(t *testing.T) {
	m := mesh.Start(t, "")
	data := filepath.Join(m.Dir, "data")
	sendVersion := func(version int64) {
		t.Helper()
		if status, raw, err := m.Send(edit("doc", version)); err != nil || status != http.StatusAccepted {
			t.Fatalf("version %d: %d %s %v", version, status, raw, err)
		}
		m.Until(30*time.Second, fmt.Sprint("version ", version, " is there"), func() error {
			var got document
			err := m.GetJSON("/v1/documents/docs/doc", &got)
			if err == nil && (got.Document.Version != fmt.Sprint(version) || got.Document.State != "DOCUMENT_STATE_CURRENT") {
				err = fmt.Errorf("%+v", got)
			}
			return err
		})
	}
	sendVersion(1)
	if out, err := exec.CommandContext(context.Background(), mesh.Binary(t), "backup", filepath.Join(m.Dir, "backup"), "--config", filepath.Join(m.Dir, "config.yaml")).CombinedOutput(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	for version := int64(2); version <= 5; version++ {
		sendVersion(version)
	}
	m.Kill()
	for _, gone := range []string{"kafka", "spool", "sequencer.db", "sequencer.db-wal", "sequencer.db-shm", "sequencer.db-runs"} {
		if err := os.RemoveAll(filepath.Join(data, gone)); err != nil {
			t.Fatal(err)
		}
	}
	for _, back := range []string{"sequencer.db", "sequencer.db-runs"} {
		if err := os.Rename(filepath.Join(m.Dir, "backup", back), filepath.Join(data, back)); err != nil {
			t.Fatal(err)
		}
	}
	m.Up()
	sendVersion(6)
	log, err := m.Log()
	if err != nil || !strings.Contains(log, "sequencer.db is older than knowledge.db") {
		t.Errorf("the log does not say that the files do not belong together: %v", err)
	}
}
