package zendesk_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/zendesk"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// newSim is a Help Center with three articles a page.
func newSim(t testing.TB) *connectortest.Docs {
	d := &connectortest.Docs{ID: func(n int) string { return fmt.Sprint(4727418240001 + n) }}
	article := func(x connectortest.Doc) map[string]any {
		id, _ := strconv.ParseInt(x.ID, 10, 64)
		return map[string]any{"id": id, "title": x.Title, "body": "<p>" + x.Text + "</p>", "locale": "en-us", "html_url": "https://acme.zendesk.com/hc/en-us/articles/" + x.ID, "updated_at": x.Updated}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2/help_center/incremental/articles.json", func(w http.ResponseWriter, r *http.Request) {
		start, _ := strconv.ParseInt(r.FormValue("start_time"), 10, 64)
		out := []any{}
		next := d.API.Now().Unix()
		for _, x := range d.All() {
			if x.Updated.Unix() < start {
				continue
			}
			if len(out) == 3 {
				next = x.Updated.Unix()
				break
			}
			out = append(out, article(x))
		}
		connectortest.Answer(w, 200, map[string]any{"articles": out, "count": len(out), "end_time": next, "next_page": fmt.Sprintf("%s%s?start_time=%d", d.API.URL, r.URL.Path, next)})
	})
	mux.HandleFunc("GET /api/v2/help_center/articles.json", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("page[after]"))
		all, next := connectortest.Cut(d.All(), from, 3)
		out := []any{}
		for _, x := range all {
			out = append(out, article(x))
		}
		connectortest.Answer(w, 200, map[string]any{"articles": out, "meta": map[string]any{"has_more": next >= 0, "after_cursor": strconv.Itoa(next)}})
	})
	mux.HandleFunc("GET /api/v2/help_center/articles/{id}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := d.Find(strings.TrimSuffix(r.PathValue("id"), ".json")); ok {
			connectortest.Answer(w, 200, map[string]any{"article": article(x)})
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET /api/v2/help_center/articles/{id}/translations.json", func(w http.ResponseWriter, r *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"translations": []any{map[string]any{"locale": "en-us", "title": "same"}, map[string]any{"locale": "de", "title": "Auf Deutsch", "body": "<p>deutsche Worte</p>"}, map[string]any{"locale": "fr", "title": "brouillon", "draft": true}}})
	})
	d.API = connectortest.NewAPI(t, func(r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		return user == "bot@example.com/token" && password == connectortest.Secret
	}, mux)
	return d
}

func open(d *connectortest.Docs) func() (connector.Connector, error) {
	return func() (connector.Connector, error) {
		return zendesk.New(config.Connector{Type: "zendesk", BaseURL: d.API.URL, PerSecond: 1e6, Credentials: map[string]config.Hidden{"user": "bot@example.com", "token": connectortest.Secret}}, nil)
	}
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		d := newSim(t)
		return d.Harness("999", open(d))
	})
}

func TestTranslationsBelongToTheirArticle(t *testing.T) {
	d := newSim(t)
	id := d.Create("Reset", "words")
	c, err := open(d)()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
	if err != nil || len(doc.Parts) != 1 || doc.Parts[0].Title != "Auf Deutsch" {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	id := newSim(t).Create("T", "x")
	connectortest.SameIDs(t, "zendesk", "secret", nil, connectortest.Webhook{Name: "an article", Want: []string{id}, Body: `{"account_id":1,"detail":{"brand_id":"1","id":"` + id + `"},
		"event":{"locale":"en-us","section_id":"2","category_id":"3","title":"T"},"id":"01F","subject":"zen:article:` + id + `","time":"2026-05-04T12:00:00Z","type":"zen:event-type:article.published","zendesk_event_version":"2022-11-06"}`})
}
