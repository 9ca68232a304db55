package sources_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// A source that nobody can ask for its documents delivers something that its settings do not fit: it is quarantined. The settings
// are mended, and the payload that was kept becomes the document.
func TestAQuarantinedDeliveryOfASourceThatCannotBeAskedBecomesItsDocument(t *testing.T) {
	m := mesh.Start(t, "")
	file := filepath.Join(m.Dir, "definition.yaml")
	define := func(id string) {
		def := fmt.Sprintf("preset: generic-hmac\nsettings: {document_id: %s}\ncontent: {inline: body.text, format: plain}\n", id)
		if err := os.WriteFile(file, []byte(def), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	define("body.wrong.key")
	must(m, "canary-1", "sources", "create", "notes", "--file", file)
	body := []byte(`{"page":{"key":"n-1"},"text":"The boiler is in the cellar."}`)
	m.Until(10*time.Second, "it is quarantined", func() error {
		mac := hmac.New(sha256.New, []byte("canary-1"))
		mac.Write(body)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/webhooks/notes?token=canary-2", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != http.StatusAccepted || !strings.Contains(string(raw), "quarantined")) {
			err = fmt.Errorf("%d %s", res.StatusCode, raw)
		}
		return err
	})
	id := ""
	m.Until(10*time.Second, "there is a dead letter", func() error {
		if id, _, _ = strings.Cut(must(m, "", "dead", "list", "--source", "notes"), " "); len(id) < 30 {
			return fmt.Errorf("listed is %q", id)
		}
		return nil
	})
	shown := must(m, "", "dead", "show", id)
	if !strings.Contains(shown, string(body)) || !strings.Contains(shown, "X-Signature: [redacted]") || strings.Contains(shown, "canary") {
		t.Errorf("shown is\n%s", shown)
	}
	if said := must(m, "", "dead", "replay", id, "--dry-run"); !strings.Contains(said, "impossible") {
		t.Errorf("before it is mended: %s", said)
	}
	define("body.page.key")
	must(m, "", "sources", "update", "notes", "--file", file)
	m.Until(10*time.Second, "it can be replayed", func() error {
		if said := must(m, "", "dead", "replay", id, "--dry-run"); !strings.Contains(said, "payload") || !strings.Contains(said, "1 would be replayed") {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	must(m, "", "dead", "replay", id)
	m.Until(20*time.Second, "the document is searchable", func() error {
		var found struct {
			Results []struct{ DocumentID string }
		}
		if err := m.GetJSON("/v1/search?source=notes&query=boiler", &found); err != nil {
			return err
		}
		if len(found.Results) != 1 || found.Results[0].DocumentID != "n-1" {
			return fmt.Errorf("%+v", found)
		}
		return nil
	})
	nowhere(t, m.Dir, filepath.Base(file))
}
