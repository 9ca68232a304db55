//go:build servers

package ghost_test

import (
	"encoding/hex"
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/ghost"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const api = "/ghost/api/admin/"

// real is a real Ghost, emptied.
type real struct {
	connectortest.Real
	// kinds are posts or pages, by the documents' ids.
	kinds map[string]string
}

type entry struct {
	ID        string `json:"id"`
	UpdatedAt string `json:"updated_at"`
}

type entries struct{ Posts, Pages []entry }

func (e entries) all() []entry { return append(e.Posts, e.Pages...) }

func newReal(t testing.TB) *real {
	id, secret, _ := strings.Cut(connectortest.Setting(t, "HOOKMESH_TEST_GHOST_ADMIN_KEY"), ":")
	key, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := &real{kinds: map[string]string{}, Real: connectortest.Real{T: t, URL: connectortest.Setting(t, "HOOKMESH_TEST_GHOST"), Authorize: func(req *http.Request) {
		req.Header.Set("Authorization", "Ghost "+ghost.Token(id, key, time.Now()))
	}}}
	for _, kind := range []string{"posts", "pages"} {
		for there := true; there; {
			var found entries
			r.Call("GET", api+kind+"/?limit=100&fields=id", nil, &found)
			for _, e := range found.all() {
				r.Call("DELETE", api+kind+"/"+e.ID+"/", nil, nil)
			}
			there = len(found.all()) > 0
		}
	}
	return r
}

// open makes the connector with the admin or the content key.
func (r *real) open(t testing.TB, key string) connector.Connector {
	c, err := ghost.New(config.Connector{Type: "ghost", BaseURL: r.URL, PerSecond: 1e6,
		Credentials: map[string]config.Hidden{key: config.Hidden(connectortest.Setting(t, "HOOKMESH_TEST_GHOST_"+strings.ToUpper(key)))}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func paragraph(text string) string { return "<p>" + html.EscapeString(text) + "</p>" }

// write makes a post or page with these fields.
func (r *real) write(kind string, fields map[string]any) string {
	var made entries
	r.Call("POST", api+kind+"/?source=html", map[string]any{kind: []any{fields}}, &made)
	id := made.all()[0].ID
	r.kinds[id] = kind
	return id
}

// change sets fields; Ghost wants to be told which state was seen.
func (r *real) change(id string, fields map[string]any) {
	at := api + r.kinds[id] + "/" + id + "/?source=html"
	var old entries
	r.Call("GET", at, nil, &old)
	fields["updated_at"] = old.all()[0].UpdatedAt
	r.Call("PUT", at, map[string]any{r.kinds[id]: []any{fields}}, nil)
}

func (r *real) harness(key string) *connectortest.Harness {
	n := 0
	return &connectortest.Harness{
		Open: func(t testing.TB) connector.Connector { return r.open(t, key) }, Advance: func(time.Duration) {}, Untouched: true, Missing: "ffffffffffffffffffffffff",
		Create: func(title, text string) string {
			n++
			return r.write([]string{"posts", "pages"}[n%2], map[string]any{"title": title, "html": paragraph(text), "status": "published"})
		},
		Update: func(id, text string) { r.change(id, map[string]any{"html": paragraph(text)}) },
		Delete: func(id string) { r.Call("DELETE", api+r.kinds[id]+"/"+id+"/", nil, nil) },
	}
}

func TestRealConformance(t *testing.T) {
	for _, key := range []string{"admin_key", "content_key"} {
		t.Run(key, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness { return newReal(t).harness(key) })
		})
	}
}

// Drafts are nobody's business: they are neither listed nor fetched, and a post that is taken back is gone.
func TestRealDraftsAreNotThere(t *testing.T) {
	for _, key := range []string{"admin_key", "content_key"} {
		t.Run(key, func(t *testing.T) {
			r := newReal(t)
			draft := r.write("posts", map[string]any{"title": "Draft", "html": "<p>words</p>", "status": "draft"})
			taken := r.write("pages", map[string]any{"title": "Taken back", "html": "<p>words</p>", "status": "published"})
			r.change(taken, map[string]any{"status": "draft"})
			if found := connectortest.Walk(t, r.open(t, key), ""); len(found) > 0 {
				t.Errorf("listed %v", found)
			}
			for _, id := range []string{draft, taken} {
				if doc, err := r.open(t, key).Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); err == nil {
					t.Errorf("fetched %s: %q", id, doc.Content)
				}
			}
		})
	}
}

// The suite's walks overlap by minutes; here the cursor's time lies between two changes.
func TestRealListsOnlyWhatChangedSinceTheCursor(t *testing.T) {
	for _, key := range []string{"admin_key", "content_key"} {
		t.Run(key, func(t *testing.T) {
			h := newReal(t).harness(key)
			old, changed := h.Create("Old", "words"), h.Create("Changed", "words")
			cursor := connectortest.Later(t, h.Open(t))
			h.Update(changed, "new words")
			found := connectortest.Walk(t, h.Open(t), cursor)
			if found[old] || !found[changed] || len(found) != 1 {
				t.Errorf("listed %v, want %s", found, changed)
			}
		})
	}
}

// A post that is edited while the list is read moves to its end, and those behind it move up.
func TestRealListsOfSeveralPagesAreComplete(t *testing.T) {
	r := newReal(t)
	const many = 105 // a page of a list holds a hundred
	ids := make([]string, many)
	for i := range ids {
		ids[i] = r.write("posts", map[string]any{"title": fmt.Sprint("Post ", i), "html": "<p>words</p>", "status": "published"})
	}
	for n, key := range []string{"admin_key", "content_key"} {
		first, err := r.open(t, key).Lister.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids[10*n : 10*n+10] {
			r.change(id, map[string]any{"html": "<p>other words</p>"})
		}
		found := connectortest.Walk(t, r.open(t, key), first.Next)
		for _, c := range first.Changes {
			found[c.DocumentID] = true
		}
		if len(found) != many {
			t.Errorf("%s: %d of %d are listed", key, len(found), many)
		}
	}
}

func TestRealWebhooksAreAuthenticAndNameTheConnectorsDocuments(t *testing.T) {
	const secret = "a secret of the webhook"
	r := newReal(t)
	hooks := connectortest.NewHooks(t, "ghost", secret)
	for _, kind := range []string{"post", "page"} {
		for _, event := range []string{"published", "published.edited", "unpublished", "deleted"} {
			r.hook(kind+"."+event, hooks.URL, secret)
		}
	}
	for _, kind := range []string{"posts", "pages"} {
		id := r.write(kind, map[string]any{"title": "Run book", "html": "<p>first words</p>", "status": "draft"})
		r.change(id, map[string]any{"status": "published"})
		hooks.Expect(t, id, "created")
		r.change(id, map[string]any{"html": "<p>second words</p>"})
		hooks.Expect(t, id, "updated")
		doc, err := r.open(t, "admin_key").Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
		if err != nil || !strings.Contains(string(doc.Content), "second words") {
			t.Errorf("%s, as a webhook names it: %q, %v", id, doc.Content, err)
		}
		r.change(id, map[string]any{"status": "draft"})
		hooks.Expect(t, id, "deleted")
		r.change(id, map[string]any{"status": "published"})
		hooks.Expect(t, id, "created")
		r.Call("DELETE", api+kind+"/"+id+"/", nil, nil)
		hooks.Expect(t, id, "deleted")
	}
}

// hook sets up a webhook until the test ends.
func (r *real) hook(event, url, secret string) {
	var made struct{ Webhooks []entry }
	r.Call("POST", api+"webhooks/", map[string]any{"webhooks": []any{map[string]any{"event": event, "target_url": url + "/" + event, "secret": secret, "name": event}}}, &made)
	r.T.Cleanup(func() {
		req, err := http.NewRequest("DELETE", r.URL+api+"webhooks/"+made.Webhooks[0].ID+"/", nil)
		if err != nil {
			r.T.Error(err)
			return
		}
		r.Authorize(req)
		if res, err := http.DefaultClient.Do(req); err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusNoContent {
			r.T.Errorf("delete webhook: %v %v", res, err)
		}
	})
}
