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

// What was in the knowledge base when the backup began is there after a restore without the log; what was delivered before is a
// duplicate still, and what comes after it, also again, is applied.
func TestABackupOfARunningMeshIsRestored(t *testing.T) {
	m := mesh.Start(t, "")
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
	backup, data := filepath.Join(m.Dir, "backup"), filepath.Join(m.Dir, "data")
	out, err := exec.CommandContext(context.Background(), mesh.Binary(t), "backup", backup, "--config", filepath.Join(m.Dir, "config.yaml")).CombinedOutput()
	if want := "reconciler.db\nknowledge.db\nsequencer.db\ndedupe.db\nsources.db\n"; err != nil || !strings.HasPrefix(string(out), want) {
		t.Fatalf("%s %v", out, err)
	}
	send(2, http.StatusAccepted)
	wait(2)
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
}
