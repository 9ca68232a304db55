package notion_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/notion"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

func rich(text string) []map[string]any { return []map[string]any{{"plain_text": text}} }

// newSim is a workspace, three results a page; blocks come two at a time.
func newSim(t testing.TB) *connectortest.Docs {
	d := &connectortest.Docs{ID: func(n int) string { return fmt.Sprintf("10773a03-a25e-8061-8256-%012d", n) }}
	page := func(x connectortest.Doc) map[string]any {
		return map[string]any{"object": "page", "id": x.ID, "url": "https://www.notion.so/" + x.ID, "last_edited_time": x.Updated.Format("2006-01-02T15:04:00.000Z"), "in_trash": x.Deleted,
			"properties": map[string]any{"Name": map[string]any{"type": "title", "title": rich(x.Title)}, "Owner": map[string]any{"type": "people", "people": []any{map[string]any{"name": "Ann"}}}, "Size": map[string]any{"type": "number", "number": 42}}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/search", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Cursor string `json:"start_cursor"`
		}
		_ = json.NewDecoder(r.Body).Decode(&q)
		from, _ := strconv.Atoi(q.Cursor)
		all, next := connectortest.Cut(d.Newest(), from, 3)
		results := []any{}
		for _, x := range all {
			results = append(results, page(x))
		}
		out := map[string]any{"results": results, "has_more": next >= 0, "next_cursor": nil}
		if next >= 0 {
			out["next_cursor"] = strconv.Itoa(next)
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET /v1/pages/{id}", func(w http.ResponseWriter, r *http.Request) {
		for _, x := range d.Ever() { // pages in the trash are still served
			if x.ID == r.PathValue("id") {
				connectortest.Answer(w, 200, page(x))
				return
			}
		}
		if strings.HasPrefix(r.PathValue("id"), "dddddddd") {
			connectortest.Answer(w, 400, map[string]any{"code": "validation_error"})
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET /v1/databases/{id}", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.PathValue("id"), "dddddddd") {
			connectortest.Answer(w, 200, map[string]any{"object": "database", "id": r.PathValue("id"), "title": rich("Tasks"), "description": rich("What is to do"),
				"properties": map[string]any{"State": map[string]any{"type": "select", "select": map[string]any{"options": []any{}}}, "Name": map[string]any{"type": "title", "title": map[string]any{}}}})
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET /v1/blocks/{id}/children", func(w http.ResponseWriter, r *http.Request) {
		blocks := []map[string]any{}
		add := func(kind string, held map[string]any, children bool) {
			blocks = append(blocks, map[string]any{"id": kind, "type": kind, "has_children": children, kind: held})
		}
		if x, ok := d.Find(r.PathValue("id")); ok {
			add("heading_2", map[string]any{"rich_text": rich("Heading")}, false)
			add("paragraph", map[string]any{"rich_text": []map[string]any{{"plain_text": x.Text}, {"plain_text": "link", "href": "https://x/y"}}}, false)
			add("toggle", map[string]any{"rich_text": rich("more")}, true)
			add("code", map[string]any{"rich_text": rich("a < b"), "language": "go", "caption": rich("the caption")}, false)
			add("table", map[string]any{"table_width": 2}, true)
			add("child_page", map[string]any{"title": "Below"}, true)
			add("bookmark", map[string]any{"url": "https://bookmarked", "caption": rich("")}, false)
			add("brand_new_kind", map[string]any{"rich_text": 7}, false)
		} else if r.PathValue("id") == "toggle" {
			add("to_do", map[string]any{"rich_text": rich("hidden"), "checked": true}, false)
		} else if r.PathValue("id") == "table" {
			add("table_row", map[string]any{"cells": []any{rich("port"), rich("80|81")}}, false)
		}
		from, _ := strconv.Atoi(r.FormValue("start_cursor"))
		cut, next := connectortest.Cut(blocks, from, 2)
		connectortest.Answer(w, 200, map[string]any{"results": cut, "has_more": next >= 0, "next_cursor": strconv.Itoa(next)})
	})
	d.API = connectortest.NewAPI(t, func(r *http.Request) bool { return connectortest.Bearer(r) && r.Header.Get("Notion-Version") != "" }, mux)
	return d
}

func open(d *connectortest.Docs) func() (connector.Connector, error) {
	return func() (connector.Connector, error) {
		return notion.New(config.Connector{Type: "notion", BaseURL: d.API.URL, PerSecond: 1e6, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
	}
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		d := newSim(t)
		return d.Harness("10773a03-a25e-8061-8256-999999999999", open(d))
	})
}

func TestNoWordOfAPageIsLost(t *testing.T) {
	d := newSim(t)
	id := d.Create("Title", "words")
	c, err := open(d)()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## Heading", "words[link](https://x/y)", "- more", "- [x] hidden", "```go\na < b\n```", "the caption", `| port | 80\|81 |`, "Below", "https://bookmarked", "Owner: Ann", "Size: 42"} {
		if !strings.Contains(string(doc.Content), want) {
			t.Errorf("%q is not in\n%s", want, doc.Content)
		}
	}
	if doc, err = c.Fetcher.Fetch(t.Context(), connector.Ref{ID: "dddddddd-a25e-8061-8256-f26813633a59"}); err != nil || doc.Title != "Tasks" || !strings.Contains(string(doc.Content), "What is to do") {
		t.Errorf("a database: %+v, %v", doc, err)
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	id := newSim(t).Create("T", "x")
	event := `{"id":"1782edd6-a853-4d4a-b02c-9c8c16f28e53","timestamp":"2026-05-04T12:00:00.000Z","type":"%s",%s}`
	connectortest.SameIDs(t, "notion", "secret", nil,
		connectortest.Webhook{Name: "an edit", Want: []string{id}, Body: fmt.Sprintf(event, "page.content_updated", `"entity":{"id":"`+id+`","type":"page"},"data":{"parent":{"id":"x","type":"space"}}`)},
		connectortest.Webhook{Name: "a comment", Want: []string{id}, Body: fmt.Sprintf(event, "comment.created", `"entity":{"id":"c","type":"comment"},"data":{"page_id":"`+id+`","parent":{"id":"`+id+`","type":"page"}}`)},
	)
}
