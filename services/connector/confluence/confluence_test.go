package confluence_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/confluence"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

type page struct {
	id, title, body, status string
	version                 int
	updated                 time.Time
	blog                    bool
}

// sim is a site with both APIs, three entries a page.
type sim struct {
	api   *connectortest.API
	mu    sync.Mutex
	pages []*page
}

func newSim(t testing.TB) *sim {
	s := &sim{}
	mux := http.NewServeMux()
	for _, kind := range []string{"pages", "blogposts"} {
		mux.HandleFunc("GET /wiki/api/v2/"+kind, func(w http.ResponseWriter, r *http.Request) { s.v2List(w, r, kind == "blogposts") })
		mux.HandleFunc("GET /wiki/api/v2/"+kind+"/{id}", func(w http.ResponseWriter, r *http.Request) { s.v2Get(w, r, kind == "blogposts") })
		mux.HandleFunc("GET /wiki/api/v2/"+kind+"/{id}/{what}", func(w http.ResponseWriter, r *http.Request) {
			switch r.PathValue("what") {
			case "footer-comments":
				connectortest.Answer(w, 200, map[string]any{"results": []any{map[string]any{"id": "1", "body": map[string]any{"storage": map[string]any{"value": "<p>a remark</p>"}}}}, "_links": map[string]any{}})
			case "attachments":
				connectortest.Answer(w, 200, map[string]any{"results": []any{map[string]any{"title": "notes.txt", "downloadLink": "/download/attachments/notes.txt"}, map[string]any{"title": "cat.png", "downloadLink": "/download/cat.png"}}, "_links": map[string]any{}})
			default:
				connectortest.NotFound(w)
			}
		})
	}
	mux.HandleFunc("GET /wiki/download/attachments/notes.txt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("attached words")) })
	mux.HandleFunc("GET /wiki/api/v2/spaces/{id}", func(w http.ResponseWriter, r *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"id": "65541", "key": "DOCS"})
	})
	mux.HandleFunc("GET /wiki/api/v2/spaces", func(w http.ResponseWriter, r *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"results": []any{map[string]any{"id": "65541", "key": "DOCS"}}})
	})
	mux.HandleFunc("GET /wiki/rest/api/content/search", s.v1Search)
	mux.HandleFunc("GET /wiki/rest/api/content/{id}", s.v1Get)
	mux.HandleFunc("GET /wiki/rest/api/content/{id}/child/{kind}", func(w http.ResponseWriter, r *http.Request) {
		one := map[string]any{"id": "1", "title": "notes.txt", "body": map[string]any{"storage": map[string]any{"value": "<p>a remark</p>"}}, "_links": map[string]any{"download": "/download/attachments/notes.txt"}}
		connectortest.Answer(w, 200, map[string]any{"results": []any{one}, "_links": map[string]any{}})
	})
	s.api = connectortest.NewAPI(t, func(r *http.Request) bool {
		_, password, _ := r.BasicAuth()
		return password == connectortest.Secret || connectortest.Bearer(r)
	}, mux)
	return s
}

func (s *sim) newest(keep func(*page) bool) (out []*page) {
	for _, p := range s.pages {
		if p.status == "current" && keep(p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *page) int { return b.updated.Compare(a.updated) })
	return out
}

func v2(p *page) map[string]any {
	return map[string]any{"id": p.id, "status": p.status, "title": p.title, "spaceId": "65541", "version": map[string]any{"number": p.version, "createdAt": p.updated},
		"_links": map[string]any{"webui": "/spaces/DOCS/pages/" + p.id}, "body": map[string]any{"storage": map[string]any{"value": p.body}}}
}

func (s *sim) v2List(w http.ResponseWriter, r *http.Request, blog bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.newest(func(p *page) bool { return p.blog == blog })
	from, _ := strconv.Atoi(r.FormValue("cursor"))
	from = min(from, len(all))
	to := min(from+3, len(all))
	links := map[string]any{"base": s.api.URL + "/wiki"}
	if to < len(all) {
		links["next"] = fmt.Sprintf("%s?cursor=%d&limit=100&sort=-modified-date", r.URL.Path, to)
	}
	var out []any
	for _, p := range all[from:to] {
		out = append(out, v2(p))
	}
	connectortest.Answer(w, 200, map[string]any{"results": out, "_links": links})
}

func (s *sim) v2Get(w http.ResponseWriter, r *http.Request, blog bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pages {
		if p.id == r.PathValue("id") && p.blog == blog { // also if it is in the trash
			connectortest.Answer(w, 200, v2(p))
			return
		}
	}
	connectortest.NotFound(w)
}

func v1(p *page) map[string]any {
	kind := "page"
	if p.blog {
		kind = "blogpost"
	}
	return map[string]any{"id": p.id, "type": kind, "status": p.status, "title": p.title, "space": map[string]any{"key": "DOCS"}, "version": map[string]any{"number": p.version, "when": p.updated},
		"body": map[string]any{"storage": map[string]any{"value": p.body}}, "_links": map[string]any{"webui": "/display/DOCS/" + p.id}}
}

func (s *sim) v1Search(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.newest(func(p *page) bool { return strings.Contains(r.FormValue("cql"), "type=blogpost") == p.blog })
	from, _ := strconv.Atoi(r.FormValue("start"))
	from = min(from, len(all))
	to := min(from+3, len(all))
	var out []any
	for _, p := range all[from:to] {
		out = append(out, v1(p))
	}
	links := map[string]any{}
	if to < len(all) {
		links["next"] = "/rest/api/content/search?start=" + strconv.Itoa(to)
	}
	connectortest.Answer(w, 200, map[string]any{"results": out, "start": from, "size": len(out), "_links": links})
}

func (s *sim) v1Get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pages {
		if p.id == r.PathValue("id") && p.status == "current" {
			connectortest.Answer(w, 200, v1(p))
			return
		}
	}
	connectortest.NotFound(w)
}

func (s *sim) harness(cfg config.Connector) *connectortest.Harness {
	cfg.BaseURL, cfg.PerSecond = s.api.URL+"/wiki", 1e6
	change := func(id string, f func(*page)) {
		at := s.api.Tick()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.pages {
			if p.id == id {
				p.version, p.updated = p.version+1, at
				f(p)
			}
		}
	}
	return &connectortest.Harness{
		API: s.api, Missing: "99999999999999999999",
		Open: func(t testing.TB) connector.Connector {
			c, err := confluence.New(cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Create: func(title, text string) string {
			at := s.api.Tick()
			s.mu.Lock()
			defer s.mu.Unlock()
			id := fmt.Sprintf("90071992547409931%03d", len(s.pages)) // beyond 2^53
			s.pages = append(s.pages, &page{id: id, title: title, body: "<p>" + text + "</p>", status: "current", version: 1, updated: at, blog: len(s.pages)%4 == 3})
			return id
		},
		Update: func(id, text string) { change(id, func(p *page) { p.body = "<p>" + text + "</p>" }) },
		Delete: func(id string) { change(id, func(p *page) { p.status, p.version = "trashed", p.version-1 }) },
	}
}

var (
	cloud = config.Connector{Credentials: map[string]config.Hidden{"user": "bot@example.com", "token": connectortest.Secret}, Options: map[string]string{"edition": "cloud"}, Scope: []string{"DOCS"}}
	dc    = config.Connector{Credentials: map[string]config.Hidden{"token": connectortest.Secret}}
)

func TestConformance(t *testing.T) {
	for name, cfg := range map[string]config.Connector{"Cloud": cloud, "Data Center": dc} {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness { return newSim(t).harness(cfg) })
		})
	}
}

func TestCommentsAndAttachedFilesBelongToTheirPage(t *testing.T) {
	for _, cfg := range []config.Connector{cloud, dc} {
		h := newSim(t).harness(cfg)
		id := h.Create("Page", "text")
		d, err := h.Open(t).Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
		if err != nil || len(d.Parts) != 2 || !strings.Contains(string(d.Parts[0].Content), "a remark") || string(d.Parts[1].Content) != "attached words" || d.Parts[1].Format != connector.FormatPlain {
			t.Errorf("%+v, %v", d, err)
		}
	}
}

func TestAPageOfAnotherSpaceIsNotTaken(t *testing.T) {
	cfg := dc
	cfg.Scope = []string{"OTHER"}
	h := newSim(t).harness(cfg)
	id := h.Create("Page", "text")
	if _, err := h.Open(t).Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); !errors.Is(err, connector.ErrGone) {
		t.Error(err)
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	h := newSim(t).harness(dc)
	id := h.Create("Page", "text")
	connectortest.SameIDs(t, "confluence", "secret", nil,
		connectortest.Webhook{Name: "Data Center, with a number", Want: []string{id}, Body: `{"event":"page_updated","timestamp":1777900000000,"page":{"id":` + id + `,"title":"Page","version":2}}`},
		connectortest.Webhook{Name: "Cloud, with a text", Want: []string{id}, Body: `{"event":"page_updated","timestamp":1777900000000,"page":{"idAsString":"` + id + `","id":1,"title":"Page"}}`},
	)
}

func TestWrongSettingsAreRefused(t *testing.T) {
	for _, cfg := range []config.Connector{{}, {BaseURL: "https://x"}, {BaseURL: "https://x", Credentials: dc.Credentials, Scope: []string{`A") or ("B`}}, {BaseURL: "https://x", Credentials: dc.Credentials, Options: map[string]string{"edition": "lite"}}} {
		if _, err := confluence.New(cfg, nil); err == nil {
			t.Errorf("%v was taken", cfg)
		}
	}
}
