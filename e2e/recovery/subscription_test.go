package recovery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// graph is Microsoft Graph with one drive, as far as its connector asks: deltas, contents, subscriptions that end.
type graph struct {
	*httptest.Server
	mu            sync.Mutex
	files         []string
	subscriptions map[string]map[string]any
	made          int
	// life is how long it lets a subscription live; refuse: it lets nobody subscribe.
	life   time.Duration
	refuse bool
}

func newGraph(tb testing.TB) *graph {
	g := &graph{subscriptions: map[string]map[string]any{}}
	mux := http.NewServeMux()
	item := func(id string) map[string]any {
		return map[string]any{"id": id, "name": id + ".md", "cTag": "1", "file": map[string]any{}, "lastModifiedDateTime": "2026-01-01T00:00:00Z", "webUrl": "https://acme.example/" + id}
	}
	locked := func(fn http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			g.mu.Lock()
			defer g.mu.Unlock()
			fn(w, r)
		}
	}
	mux.HandleFunc("GET /v1.0/drives/d1/root/delta", locked(func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("token"))
		value := []any{}
		for _, id := range g.files[from:] {
			value = append(value, item(id))
		}
		answer(w, map[string]any{"value": value, "@odata.deltaLink": fmt.Sprintf("%s%s?token=%d", g.URL, r.URL.Path, len(g.files))})
	}))
	mux.HandleFunc("GET /v1.0/drives/d1/items/{id}", func(w http.ResponseWriter, r *http.Request) { answer(w, item(r.PathValue("id"))) })
	mux.HandleFunc("GET /v1.0/drives/d1/items/{id}/content", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "The words of %s.", r.PathValue("id"))
	})
	mux.HandleFunc("POST /v1.0/subscriptions", locked(func(w http.ResponseWriter, r *http.Request) {
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || g.refuse {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		g.made++
		m["id"], m["expirationDateTime"] = fmt.Sprint("sub-", g.made), time.Now().Add(g.life).UTC()
		g.subscriptions[fmt.Sprint(m["id"])] = m
		w.WriteHeader(http.StatusCreated)
		answer(w, m)
	}))
	mux.HandleFunc("GET /v1.0/subscriptions", locked(func(w http.ResponseWriter, _ *http.Request) {
		all := []any{}
		for _, m := range g.subscriptions {
			all = append(all, m)
		}
		answer(w, map[string]any{"value": all})
	}))
	mux.HandleFunc("DELETE /v1.0/subscriptions/{id}", locked(func(w http.ResponseWriter, r *http.Request) {
		delete(g.subscriptions, r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("PATCH /v1.0/subscriptions/{id}", locked(func(w http.ResponseWriter, r *http.Request) {
		m := g.subscriptions[r.PathValue("id")]
		if m == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		m["expirationDateTime"] = time.Now().Add(g.life).UTC()
		answer(w, m)
	}))
	g.Server = httptest.NewServer(mux)
	tb.Cleanup(g.Close)
	return g
}

// with changes the provider.
func (g *graph) with(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
}

// patience is for a machine that is busy with other things. Nothing here waits for a time of its own: how often subscriptions are looked
// at, and so how often one is renewed or made, may differ from run to run.
const patience = 2 * time.Minute

// keeps waits until hookmesh has noted the only subscription that lives, if that is as wanted, and returns its id.
func (g *graph) keeps(m *mesh.Mesh, what string, wanted func(id string, ends time.Time, secret any) bool) (id string) {
	m.TB.Helper()
	m.Until(patience, what, func() error {
		var ends time.Time
		g.mu.Lock()
		live := fmt.Sprint(g.subscriptions)
		right := len(g.subscriptions) == 1
		for i, s := range g.subscriptions {
			id, ends = i, s["expirationDateTime"].(time.Time)
			right = right && wanted(id, ends, s["clientState"])
		}
		g.mu.Unlock()
		if !right {
			return fmt.Errorf("there are %s", live)
		}
		var res struct {
			Sources []struct {
				Name          string
				Subscriptions []struct{ ExpiresAt time.Time }
			}
		}
		if err := m.GetJSON("/v1/sources", &res); err != nil {
			return err
		}
		for _, s := range res.Sources {
			if s.Name == "drive" && len(s.Subscriptions) == 1 && s.Subscriptions[0].ExpiresAt.Equal(ends) {
				return nil
			}
		}
		return fmt.Errorf("%s ends at %s, noted is %+v", id, ends, res.Sources)
	})
	return id
}

// sources runs a command about sources; the secret travels in the environment.
func sources(m *mesh.Mesh, secret string, args ...string) {
	m.TB.Helper()
	ctx, cancel := context.WithTimeout(m.TB.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, mesh.Binary(m.TB), append(append([]string{"sources"}, args...), "--url", m.HTTP)...)
	cmd.Env = append(os.Environ(), "HOOKMESH_SECRET="+secret)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.TB.Fatalf("%v: %v: %s", args, err, out)
	}
}

// examined is what doctor says of the subscriptions.
func examined(m *mesh.Mesh) string {
	ctx, cancel := context.WithTimeout(m.TB.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, mesh.Binary(m.TB), "doctor", "--config", filepath.Join(m.Dir, "config.yaml"), "--ntp", "")
	cmd.Stdout = &out
	_ = cmd.Run() // other findings decide the exit code, too
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, " subscriptions ") {
			return line
		}
	}
	return out.String()
}

// A source that has to be asked to call us is asked; before the subscription ends it is renewed, and one that was lost is made anew, and
// what changed meanwhile is found. What goes wrong with it is told.
func TestASourceIsKeptCallingUs(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	g.life = 10 * time.Minute // so little that it has to be renewed when it is looked at next
	m := mesh.Start(t, "")
	definition := filepath.Join(m.Dir, "drive.yaml")
	if err := os.WriteFile(definition, fmt.Appendf(nil, "preset: microsoft-graph\npublic_url: https://hooks.example/webhooks/drive\npoll: {interval: 6h, sweep_interval: -1s}\n"+
		"connector: {type: sharepoint, base_url: '%s/v1.0', credentials: {token: x}, scope: [drives/d1], private_addresses: true}\n", g.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	sources(m, "the-client-state", "create", "drive", "--file", definition) // at run time: the secret has to find its way to who subscribes
	searchable := func(id string) {
		t.Helper()
		m.Until(patience, id+" is searchable", func() error {
			var doc struct{ Document struct{ State string } }
			if err := m.GetJSON("/v1/documents/drive/"+id, &doc); err != nil || doc.Document.State != "DOCUMENT_STATE_CURRENT" {
				return fmt.Errorf("%s %w", doc.Document.State, err)
			}
			return nil
		})
	}
	restart := func(meanwhile func()) {
		m.Kill()
		g.with(meanwhile)
		m.Up()
	}
	first := g.keeps(m, "the source was asked to call us", func(string, time.Time, any) bool { return true })
	g.with(func() { g.files = append(g.files, "told") })
	call := fmt.Appendf(nil, `{"value":[{"subscriptionId":%q,"clientState":"the-client-state","changeType":"updated","resource":"drives/d1/root"}]}`, first)
	m.Until(patience, "the source's call is taken", func() error { // the gateway may hear of the source later than the reconciler
		status, raw, err := m.SendTo("drive", call, "")
		if err != nil || status/100 != 2 {
			return fmt.Errorf("%d %s %w", status, raw, err)
		}
		return nil
	})
	searchable("told")

	restart(func() { g.life = 24 * time.Hour })
	lasting := time.Now().Add(23 * time.Hour)
	g.keeps(m, "the subscription was renewed, not made anew", func(id string, ends time.Time, _ any) bool { return id == first && ends.After(lasting) })
	m.Until(patience, "doctor is content", func() error {
		if said := examined(m); !strings.Contains(said, "1 are alive") {
			return fmt.Errorf("%s", said)
		}
		return nil
	})

	restart(func() { clear(g.subscriptions); g.files = append(g.files, "missed") })
	second := g.keeps(m, "the lost subscription was made anew", func(id string, _ time.Time, _ any) bool { return id != first })
	searchable("missed")

	sources(m, "another-state", "rotate-secret", "drive", "--overlap", "1h")
	g.keeps(m, "the subscription bears the new secret", func(id string, _ time.Time, secret any) bool { return id != second && secret == "another-state" })

	restart(func() { clear(g.subscriptions); g.refuse = true })
	m.Until(patience, "doctor tells that it was lost", func() error {
		if said := examined(m); !strings.Contains(said, "has lost our subscription") {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
}
