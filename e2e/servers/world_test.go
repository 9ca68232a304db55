//go:build servers

package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

const (
	secret = "a secret of the webhook"
	// patience is how long something may take; the figures that are printed say how long it took.
	patience = 60 * time.Second
)

// setting is what scripts/servers.sh says of the servers that it has started.
func setting(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run this with `make test-servers`", name)
	}
	return v
}

// server is a real server's API.
type server struct {
	testing.TB
	url       string
	authorize func(*http.Request)
}

// call sends a request, with body as JSON unless it is nil, and reads the answer into into, unless that is nil.
func (s server) call(method, path string, body, into any) {
	s.Helper()
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			s.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, bytes.NewReader(raw))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	s.authorize(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		s.Fatalf("%s %s: %s %v: %.500s", method, path, res.Status, err, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			s.Fatalf("%s %s: %v: %.500s", method, path, err, answer)
		}
	}
}

// kind is one kind of document of a source, and how people write it.
type kind struct {
	name   string
	create func(title, text string) (id string)
	update func(id, text string)
	remove func(id string)
	// restore undoes remove; nil: it cannot be undone.
	restore func(id string)
	// remark adds a comment; nil: there are none.
	remark func(id, text string)
}

// world is the program with a source over a real server.
type world struct {
	testing.TB
	mesh   *mesh.Mesh
	source string
}

// newWorld starts the program with one source more, whose keys are given as YAML in flow style, and waits until it has been read once.
// From then on it is polled no more: what comes, comes by webhooks, or after a restart.
func newWorld(t *testing.T, source, connector string) world {
	w := world{t, mesh.Start(t, fmt.Sprintf("  - name: %s\n    preset: %s\n    secrets: [{value: %s}]\n    connector: %s\n    poll: {interval: 24h, sweep_interval: -1s}\n", source, source, secret, connector)), source}
	w.mesh.Until(patience, "the source was read", w.isRead)
	return w
}

// isRead says whether the backfill of the source is over.
func (w world) isRead() error {
	var res struct{ Backfill struct{ State, Error string } }
	if err := w.mesh.GetJSON("/v1/sources/"+w.source+"/backfill", &res); err != nil {
		return err
	}
	if !strings.HasSuffix(res.Backfill.State, "DONE") {
		return fmt.Errorf("its backfill is %+v", res.Backfill)
	}
	return nil
}

func (w world) webhook() string { return w.mesh.HTTP + "/webhooks/" + w.source }

// says waits until a search finds the words in the document.
func (w world) says(id, words string) {
	w.Helper()
	w.mesh.Until(patience, fmt.Sprintf("%s is found by %q", id, words), func() error {
		texts, err := w.search(id, words)
		if err == nil && !strings.Contains(texts, words) {
			err = fmt.Errorf("it says %q", texts)
		}
		return err
	})
}

// silent waits until a search finds the words no more in the document.
func (w world) silent(id, words string) {
	w.Helper()
	w.mesh.Until(patience, fmt.Sprintf("%s is not found by %q", id, words), func() error {
		texts, err := w.search(id, words)
		if err == nil && strings.Contains(texts, words) {
			err = fmt.Errorf("it says %q", texts)
		}
		return err
	})
}

// search returns what a search for the words finds in the document.
func (w world) search(id, words string) (string, error) {
	var found struct {
		Results []struct{ Source, DocumentID, Text string }
	}
	if err := w.mesh.GetJSON("/v1/search?limit=50&source="+w.source+"&query="+url.QueryEscape(words), &found); err != nil {
		return "", err
	}
	var texts []string
	for _, r := range found.Results {
		if r.DocumentID == id {
			texts = append(texts, r.Text)
		}
	}
	return strings.Join(texts, "\n"), nil
}

// ask posts a request to the program's API.
func (w world) ask(path string, body any) {
	w.Helper()
	server{w, w.mesh.HTTP, func(*http.Request) {}}.call("POST", path, body, nil)
}

// took does something that a person does at the source, waits for what must follow, and prints how long both took.
func (w world) took(what string, do, follows func()) {
	w.Helper()
	began := time.Now()
	do()
	done := time.Now()
	follows()
	w.Logf("%-40s %6.2f s after the answer, which took %.2f s", what, time.Since(done).Seconds(), done.Sub(began).Seconds())
}

// lives plays a document's life: each change is told by a webhook alone and is searchable, or gone, afterwards.
func (w world) lives(k kind) {
	w.Helper()
	var id string
	w.took(k.name+" created", func() { id = k.create("Run book", "firstwords4711") }, func() { w.says(id, "firstwords4711") })
	w.took(k.name+" changed", func() { k.update(id, "secondwords4712") }, func() { w.says(id, "secondwords4712"); w.silent(id, "firstwords4711") })
	if k.remark != nil {
		w.took(k.name+" commented on", func() { k.remark(id, "remarked4713") }, func() { w.says(id, "remarked4713") })
	}
	w.took(k.name+" removed", func() { k.remove(id) }, func() { w.silent(id, "secondwords4712") })
	if k.restore != nil {
		w.took(k.name+" restored", func() { k.restore(id) }, func() { w.says(id, "secondwords4712") })
	}
}

// recovers changes documents of all kinds while the program is away and no webhook reaches it: the poll after its start brings what
// was made and changed, and a sweep takes what was removed.
func (w world) recovers(kinds []kind) {
	w.Helper()
	changed, removed, made := make([]string, len(kinds)), make([]string, len(kinds)), make([]string, len(kinds))
	for i, k := range kinds {
		changed[i], removed[i] = k.create("Changed", "before4721"), k.create("Removed", "doomed4722")
		w.says(changed[i], "before4721")
		w.says(removed[i], "doomed4722")
	}
	w.mesh.Kill()
	for i, k := range kinds {
		made[i] = k.create("Made", "made4723")
		k.update(changed[i], "after4724")
		k.remove(removed[i])
	}
	w.mesh.Up()
	w.took("changes made while we were away", func() { w.ask("/v1/sources/"+w.source+":poll", map[string]any{}) }, func() {
		for i := range kinds {
			w.says(made[i], "made4723")
			w.says(changed[i], "after4724")
			w.silent(changed[i], "before4721")
		}
	})
	w.took("removals made while we were away", func() { w.ask("/v1/sources/"+w.source+":sweep", map[string]any{"confirmDeletions": true}) }, func() {
		for i := range kinds {
			w.silent(removed[i], "doomed4722")
		}
	})
}
