package jira_test

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/jira"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// newSim is a site with both searches, three issues a page.
func newSim(t testing.TB) *connectortest.Docs {
	d := &connectortest.Docs{ID: func(n int) string { return strconv.Itoa(99291 + n) }}
	issue := func(x connectortest.Doc) map[string]any {
		return map[string]any{"id": x.ID, "key": "DOCS-" + strconv.Itoa(x.N+1), "fields": map[string]any{"summary": x.Title, "updated": x.Updated.Format("2006-01-02T15:04:05.000-0700"), "project": map[string]any{"key": "DOCS"},
			"attachment": []any{map[string]any{"filename": "log.txt", "content": d.API.URL + "/secure/attachment/1/log.txt"}, map[string]any{"filename": "cat.png", "content": "http://127.0.0.1:1/never"}}},
			"renderedFields": map[string]any{"description": "<p>" + strings.ReplaceAll(x.Text, "&", "&amp;") + "</p>"}}
	}
	search := func(w http.ResponseWriter, r *http.Request, from int, answer func(next, total int) map[string]any) {
		all := d.Newest()
		if strings.Contains(r.FormValue("jql"), "order by id asc") {
			all = d.All()
		}
		page, next := connectortest.Cut(all, from, 3)
		out := answer(next, len(all))
		issues := []any{}
		for _, x := range page {
			issues = append(issues, issue(x))
		}
		out["issues"] = issues
		connectortest.Answer(w, 200, out)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rest/api/3/search/jql", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("nextPageToken"))
		search(w, r, from, func(next, _ int) map[string]any {
			if next < 0 {
				return map[string]any{"isLast": true}
			}
			return map[string]any{"nextPageToken": strconv.Itoa(next)}
		})
	})
	mux.HandleFunc("GET /rest/api/2/search", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("startAt"))
		search(w, r, from, func(_, total int) map[string]any { return map[string]any{"startAt": from, "total": total} })
	})
	mux.HandleFunc("GET /rest/api/2/issue/{id}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := d.Find(r.PathValue("id")); ok {
			connectortest.Answer(w, 200, issue(x))
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET /rest/api/2/issue/{id}/comment", func(w http.ResponseWriter, r *http.Request) {
		comments := []any{map[string]any{"author": map[string]any{"displayName": "Ann"}, "renderedBody": "<p>first</p>"}, map[string]any{"author": map[string]any{"displayName": "Bob"}, "renderedBody": "<p>second</p>"}}
		from, _ := strconv.Atoi(r.FormValue("startAt"))
		page, _ := connectortest.Cut(comments, from, 1)
		connectortest.Answer(w, 200, map[string]any{"total": 2, "comments": page})
	})
	mux.HandleFunc("GET /secure/attachment/1/log.txt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("attached words")) })
	d.API = connectortest.NewAPI(t, func(r *http.Request) bool {
		_, password, _ := r.BasicAuth()
		return password == connectortest.Secret || connectortest.Bearer(r)
	}, mux)
	return d
}

func open(d *connectortest.Docs, cfg config.Connector) func() (connector.Connector, error) {
	cfg.BaseURL, cfg.PerSecond = d.API.URL, 1e6
	return func() (connector.Connector, error) { return jira.New(cfg, nil) }
}

var (
	cloud = config.Connector{Credentials: map[string]config.Hidden{"user": "bot@example.com", "token": connectortest.Secret}, Options: map[string]string{"edition": "cloud"}, Scope: []string{"DOCS"}}
	dc    = config.Connector{Credentials: map[string]config.Hidden{"token": connectortest.Secret}}
)

func TestConformance(t *testing.T) {
	for name, cfg := range map[string]config.Connector{"Cloud": cloud, "Data Center": dc} {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
				d := newSim(t)
				return d.Harness("1", open(d, cfg))
			})
		})
	}
}

func TestCommentsAndFilesBelongToTheirIssue(t *testing.T) {
	d := newSim(t)
	id := d.Create("Broken", "words")
	c, err := open(d, dc)()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
	if err != nil || len(doc.Parts) != 3 || doc.Parts[1].Title != "Comment by Bob" || string(doc.Parts[2].Content) != "attached words" {
		t.Errorf("%+v, %v", doc, err)
	}
	other := dc
	other.Scope = []string{"OTHER"}
	if c, err = open(d, other)(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); !errors.Is(err, connector.ErrGone) {
		t.Errorf("an issue of another project: %v", err)
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	id := newSim(t).Create("T", "x")
	issue := `"issue":{"id":"` + id + `","key":"DOCS-1","self":"https://x/1","fields":{"summary":"T","updated":"2026-05-04T12:00:00.000+0000","project":{"id":"10000"}}}`
	header := map[string]string{"X-Atlassian-Webhook-Identifier": "1"}
	connectortest.SameIDs(t, "jira", "secret", nil,
		connectortest.Webhook{Name: "an issue", Header: header, Want: []string{id}, Body: `{"webhookEvent":"jira:issue_updated","timestamp":1777896000000,` + issue + `}`},
		connectortest.Webhook{Name: "a comment", Header: header, Want: []string{id}, Body: `{"webhookEvent":"comment_created","timestamp":1777896000000,"comment":{"id":"5"},` + issue + `}`},
	)
}
