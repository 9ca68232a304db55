// Package sources drives sources that are made at run time through the built program.
package sources_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// cli runs a command against the running mesh; the secret travels in the environment.
func cli(m *mesh.Mesh, secret string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.TB.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, mesh.Binary(m.TB), append(args, "--url", m.HTTP)...)
	cmd.Env = append(os.Environ(), "HOOKMESH_SECRET="+secret)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

func must(m *mesh.Mesh, secret string, args ...string) string {
	m.TB.Helper()
	out, err := cli(m, secret, args...)
	if err != nil {
		m.TB.Fatal(err)
	}
	return out
}

// send posts a signed delivery to a source.
func send(m *mesh.Mesh, source, secret, document string) (int, string) {
	m.TB.Helper()
	body := fmt.Appendf(nil, `{"document_id":%q,"action":"updated","event_id":"%s-%d"}`, document, document, time.Now().UnixNano())
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	req, err := http.NewRequestWithContext(m.TB.Context(), http.MethodPost, m.HTTP+"/webhooks/"+source, bytes.NewReader(body))
	if err != nil {
		m.TB.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		m.TB.Fatal(err)
	}
	raw, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		m.TB.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

func accepted(m *mesh.Mesh, source, secret, document string) {
	m.TB.Helper()
	m.Until(10*time.Second, "a delivery of "+source+" is accepted", func() error {
		if status, body := send(m, source, secret, document); status != http.StatusAccepted {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// wiki serves pages to whoever has the credential, and a list of changes with one page that no webhook told of.
func wiki(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer canary-credential" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/changes" {
			_, _ = io.WriteString(w, `{"changes":[{"id":"polled","version":"1","action":"update","updated_at":"2026-01-01T00:00:00Z"}],"next_cursor":"1","has_more":false}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"title":"Page","body":"The text of %s.","version":"1"}`, filepath.Base(r.URL.Path))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestASourceIsMadeRotatedDisabledAndDeletedWhileHookmeshRuns(t *testing.T) {
	m := mesh.Start(t, "")
	w := wiki(t)
	file := filepath.Join(m.Dir, "definition.yaml")
	def := fmt.Sprintf("preset: generic-hmac\ncontent: {fetch: '%s/pages/{document_id}', body: body, title: title, version: version, headers: {Authorization: Bearer canary-credential}}\npoll: {changes: '%s/changes?cursor={cursor}', interval: 1s}\n", w.URL, w.URL)
	if err := os.WriteFile(file, []byte(def), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := send(m, "wiki", "canary-1", "a"); status != http.StatusNotFound {
		t.Errorf("before it is made: %d", status)
	}
	said := must(m, "canary-1", "sources", "create", "wiki", "--file", file)
	accepted(m, "wiki", "canary-1", "a")
	for _, page := range []string{"a", "polled"} { // one by its webhook, one by a poll: embedder and reconciler follow
		m.Until(20*time.Second, "page "+page+" is known", func() error {
			var doc struct{ Document struct{ State string } }
			return m.GetJSON("/v1/documents/wiki/"+page, &doc)
		})
	}

	said += must(m, "canary-2", "sources", "rotate-secret", "wiki", "--overlap", "1h")
	accepted(m, "wiki", "canary-1", "a")
	accepted(m, "wiki", "canary-2", "a")
	shown := must(m, "", "sources", "show", "wiki")
	if strings.Contains(shown, "last used never") || !strings.Contains(shown, "[redacted]") {
		t.Errorf("shown:\n%s", shown)
	}
	if err := os.WriteFile(file, []byte(shown+"rate: {per_second: 50}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Kill()
	m.Up()
	accepted(m, "wiki", "canary-1", "b") // at once: a name that is not known yet is answered with 503, not with 404

	if out, err := cli(m, "x", "sources", "create", "docs", "--file", file); err == nil || !strings.Contains(out, "configuration file") {
		t.Errorf("a name of the file: %s", out)
	}
	if out, err := cli(m, "", "sources", "disable", "docs"); err == nil || !strings.Contains(out, "configuration file") {
		t.Errorf("a source of the file: %s", out)
	}
	must(m, "", "sources", "disable", "wiki")
	m.Until(5*time.Second, "it is disabled", func() error {
		if status, _ := send(m, "wiki", "canary-2", "a"); status != http.StatusNotFound {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	must(m, "", "sources", "enable", "wiki")
	accepted(m, "wiki", "canary-2", "a")
	said += shown + must(m, "", "sources", "list", "--json") + must(m, "", "sources", "delete", "wiki")
	m.Until(5*time.Second, "it is deleted", func() error {
		if status, _ := send(m, "wiki", "canary-2", "a"); status != http.StatusNotFound {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	_, metrics, _ := m.Get(m.Admin + "/metrics")
	said += string(metrics) + traces(m, "wiki")
	if strings.Contains(said, "canary") {
		t.Error("an answer, a metric or a trace holds a secret")
	}
	nowhere(t, m.Dir, filepath.Base(file))
}

func TestASourceMadeAtRunTimeWithAPresetOfOnesOwnIsVerifiedAndPolled(t *testing.T) {
	presets := t.TempDir()
	own := "name: own\ndescription: A preset of our own\nconfidence: verified\nreferences: [https://example.com]\nverify:\n  - {algorithm: hmac-sha256, signature: {header: X-Signature, prefix: sha256=}, encoding: hex, message: '{body}'}\nevents:\n  - {document_id: [document_id], action: ['\"upsert\"'], ordering: monotonic, sequence: [sequence]}\n"
	if err := os.WriteFile(filepath.Join(presets, "own.yaml"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	m := mesh.Start(t, fmt.Sprintf("presets_dir: %q\n", presets))
	w := wiki(t)
	file := filepath.Join(m.Dir, "definition.yaml")
	def := fmt.Sprintf("preset: own\ncontent: {fetch: '%s/pages/{document_id}', body: body, title: title, version: version, headers: {Authorization: Bearer canary-credential}}\npoll: {changes: '%s/changes?cursor={cursor}', interval: 1s}\n", w.URL, w.URL)
	if err := os.WriteFile(file, []byte(def), 0o600); err != nil {
		t.Fatal(err)
	}
	must(m, "canary-1", "sources", "create", "wiki", "--file", file)
	accepted(m, "wiki", "canary-1", "a")
	m.Until(20*time.Second, "the page that no webhook told of is known", func() error {
		var doc struct{ Document struct{ State string } }
		return m.GetJSON("/v1/documents/wiki/polled", &doc)
	})
}

// traces returns the spans of a source's last events.
func traces(m *mesh.Mesh, source string) string {
	m.TB.Helper()
	var list struct{ Events []struct{ ID string } }
	if err := m.GetJSON("/v1/events?limit=20&source="+source, &list); err != nil {
		m.TB.Fatal(err)
	}
	var spans strings.Builder
	for _, e := range list.Events {
		var story struct{ TraceID string }
		if err := m.GetJSON("/v1/events/"+e.ID, &story); err != nil {
			m.TB.Fatal(err)
		}
		if status, raw, err := m.Get(m.Admin + "/debug/traces/" + story.TraceID); err == nil && status == http.StatusOK {
			spans.Write(raw)
		}
	}
	if !strings.Contains(spans.String(), "VerifierService/Verify") {
		m.TB.Errorf("the traces of %d events hold no span of the verifier: %.500s", len(list.Events), spans.String())
	}
	return spans.String()
}

// nowhere wants no file of the mesh to hold a secret: logs, databases, the broker's log.
func nowhere(t *testing.T, dir string, except string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == except {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte("canary")) {
			t.Errorf("%s holds a secret in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
