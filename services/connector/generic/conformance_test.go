package generic

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// wiki is an API as content and poll describe one: documents, and a list of changes by their numbers.
type wiki struct {
	mu      sync.Mutex
	pages   map[string]map[string]any
	changes []map[string]any
}

func (w *wiki) put(id string, page map[string]any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change := map[string]any{"id": id, "version": len(w.changes) + 1, "action": "upsert"}
	if page == nil {
		change["action"] = "delete"
		delete(w.pages, id)
	} else {
		page["version"] = len(w.changes) + 1
		w.pages[id] = page
	}
	w.changes = append(w.changes, change)
}

func (w *wiki) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{id}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p := w.pages[r.PathValue("id")]; p != nil {
			connectortest.Answer(rw, 200, p)
			return
		}
		connectortest.NotFound(rw)
	})
	mux.HandleFunc("GET /changes", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		from, err := strconv.Atoi(r.FormValue("cursor"))
		if err != nil || from > len(w.changes) {
			from = 0
		}
		to := min(from+3, len(w.changes))
		connectortest.Answer(rw, 200, map[string]any{"changes": w.changes[from:to], "next_cursor": strconv.Itoa(to), "has_more": to < len(w.changes)})
	})
	return mux
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		w := &wiki{pages: map[string]map[string]any{}}
		api := connectortest.NewAPI(t, connectortest.Bearer, w.handler())
		file := fmt.Sprintf(`sources: [{name: s, preset: x, content: {fetch: "%s/pages/{document_id}", body: body, title: title, version: version, headers: {Authorization: Bearer %s}},
  poll: {changes: "%s/changes?cursor={cursor}"}}]`, api.URL, connectortest.Secret, api.URL)
		cfg, err := config.Parse("f", []byte(file), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		return &connectortest.Harness{
			API: api,
			Open: func(t testing.TB) connector.Connector {
				c, err := New(cfg.Sources[0], nil)
				if err != nil {
					t.Fatal(err)
				}
				return c
			},
			Create: func(title, text string) string {
				id := fmt.Sprint("p", len(w.changes))
				w.put(id, map[string]any{"title": title, "body": text})
				return id
			},
			Update:  func(id, text string) { w.put(id, map[string]any{"title": "t", "body": text}) },
			Delete:  func(id string) { w.put(id, nil) },
			Missing: "p999",
		}
	})
}
