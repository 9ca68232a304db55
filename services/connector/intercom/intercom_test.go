package intercom_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/intercom"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

func newSim(t testing.TB) *connectortest.Docs {
	d := &connectortest.Docs{ID: func(n int) string { return "article/" + strconv.Itoa(6871117+n) }}
	article := func(x connectortest.Doc) map[string]any {
		return map[string]any{"type": "article", "id": strings.TrimPrefix(x.ID, "article/"), "title": x.Title, "body": "<p>" + x.Text + "</p>", "state": "published", "url": "https://help.example/" + x.ID, "updated_at": x.Updated.Unix(), "default_locale": "en",
			"translated_content": map[string]any{"type": "article_translated_content", "en": map[string]any{"title": x.Title, "body": "<p>" + x.Text + "</p>", "state": "published"},
				"de": map[string]any{"title": "Auf Deutsch", "body": "<p>deutsche Worte</p>", "state": "published"}, "fr": map[string]any{"title": "b", "body": "<p>brouillon</p>", "state": "draft"}}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /articles", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("page"))
		all := d.Oldest()
		page, _ := connectortest.Cut(all, 3*(n-1), 3)
		out := []any{}
		for _, x := range page {
			out = append(out, article(x))
		}
		connectortest.Answer(w, 200, map[string]any{"type": "list", "data": out, "pages": map[string]any{"page": n, "total_pages": (len(all) + 2) / 3}})
	})
	mux.HandleFunc("GET /articles/{id}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := d.Find("article/" + r.PathValue("id")); ok {
			connectortest.Answer(w, 200, article(x))
			return
		}
		connectortest.NotFound(w)
	})
	d.API = connectortest.NewAPI(t, connectortest.Bearer, mux)
	return d
}

func open(d *connectortest.Docs) func() (connector.Connector, error) {
	return func() (connector.Connector, error) {
		return intercom.New(config.Connector{Type: "intercom", BaseURL: d.API.URL, PerSecond: 1e6, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
	}
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		d := newSim(t)
		return d.Harness("article/1", open(d))
	})
}

func TestTranslationsThatArePublishedBelongToTheirArticle(t *testing.T) {
	d := newSim(t)
	id := d.Create("Title", "words")
	c, err := open(d)()
	if err != nil {
		t.Fatal(err)
	}
	if doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); err != nil || len(doc.Parts) != 1 || doc.Parts[0].Title != "Auf Deutsch" {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	id := newSim(t).Create("T", "x")
	connectortest.SameIDs(t, "intercom", "secret", nil, connectortest.Webhook{Name: "an article", Want: []string{id},
		Body: `{"type":"notification_event","id":"notif_1","topic":"article.published","created_at":1777896000,"data":{"item":{"type":"article","id":"` + strings.TrimPrefix(id, "article/") + `","title":"T"}}}`})
}
