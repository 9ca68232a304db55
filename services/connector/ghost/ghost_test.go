package ghost_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/ghost"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

var (
	secret = []byte("a key of the admin api")
	since  = regexp.MustCompile(`updated_at:>='([^']+)'`)
)

// newSim is a site whose third documents are pages, the others posts. Lists have three entries a page.
func newSim(t testing.TB) *connectortest.Docs {
	d := &connectortest.Docs{ID: func(n int) string { return fmt.Sprintf("5b7ada404f87d200b5b1f%03x", n) }}
	kind := func(x connectortest.Doc) string { return map[bool]string{true: "pages", false: "posts"}[x.N%3 == 2] }
	post := func(x connectortest.Doc) map[string]any {
		return map[string]any{"id": x.ID, "title": x.Title, "html": "<p>" + x.Text + "</p>", "url": "https://blog.example/" + x.ID, "status": "published", "updated_at": x.Updated.Format("2006-01-02T15:04:05.000Z")}
	}
	mux := http.NewServeMux()
	for _, api := range []string{"admin", "content"} {
		for _, k := range []string{"posts", "pages"} {
			mux.HandleFunc("GET /ghost/api/"+api+"/"+k+"/", func(w http.ResponseWriter, r *http.Request) {
				if id := strings.Trim(strings.TrimPrefix(r.URL.Path, "/ghost/api/"+api+"/"+k), "/"); id != "" {
					if x, ok := d.Find(id); ok && kind(x) == k {
						connectortest.Answer(w, 200, map[string]any{k: []any{post(x)}})
						return
					}
					connectortest.NotFound(w)
					return
				}
				var from time.Time
				if m := since.FindStringSubmatch(r.FormValue("filter")); m != nil {
					from, _ = time.Parse("2006-01-02 15:04:05", m[1])
				}
				var all []any
				for _, x := range d.All() {
					if kind(x) == k && !x.Updated.Before(from) {
						all = append(all, post(x))
					}
				}
				n, _ := strconv.Atoi(r.FormValue("page"))
				page, next := connectortest.Cut(all, 3*(n-1), 3)
				pagination := map[string]any{"page": n, "next": nil}
				if next >= 0 {
					pagination["next"] = n + 1
				}
				connectortest.Answer(w, 200, map[string]any{k: page, "meta": map[string]any{"pagination": pagination}})
			})
		}
	}
	d.API = connectortest.NewAPI(t, func(r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/content/") {
			return r.FormValue("key") == connectortest.Secret
		}
		return signed(r.Header.Get("Authorization"))
	}, mux)
	return d
}

// signed checks a token as the documentation says.
func signed(header string) bool {
	parts := strings.Split(strings.TrimPrefix(header, "Ghost "), ".")
	if len(parts) != 3 {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	head, _ := base64.RawURLEncoding.DecodeString(parts[0])
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Iat, Exp int64
		Aud      string
	}
	_ = json.Unmarshal(raw, &claims)
	return parts[2] == base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) && strings.Contains(string(head), `"kid":"keyid"`) && claims.Aud == "/admin/" && claims.Exp-claims.Iat <= 300
}

func TestConformance(t *testing.T) {
	for name, credentials := range map[string]map[string]config.Hidden{
		"Admin API":   {"admin_key": config.Hidden("keyid:" + hex.EncodeToString(secret))},
		"Content API": {"content_key": connectortest.Secret},
	} {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
				d := newSim(t)
				return d.Harness("ffffffffffffffffffffffff", func() (connector.Connector, error) {
					return ghost.New(config.Connector{Type: "ghost", BaseURL: d.API.URL, PerSecond: 1e6, Credentials: credentials}, nil)
				})
			})
		})
	}
}

// A post that is edited while the list is read moves to its end, and those behind it move up.
func TestAnEditInTheMiddleOfAListHidesNothing(t *testing.T) {
	d := newSim(t)
	var ids []string
	for i := range 20 {
		ids = append(ids, d.Create(fmt.Sprint("Post ", i), "old"))
	}
	c, err := ghost.New(config.Connector{Type: "ghost", BaseURL: d.API.URL, PerSecond: 1e6, Credentials: map[string]config.Hidden{"content_key": connectortest.Secret}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	found, cursor := map[string]bool{}, ""
	for more, n := true, 0; more && n < 100; n++ {
		p, err := c.Lister.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range p.Changes {
			found[ch.DocumentID] = true
		}
		if n < 6 {
			d.Update(ids[n], "new")
		}
		cursor, more = p.Next, p.More
	}
	for _, id := range ids {
		if !found[id] {
			t.Errorf("%s was not listed", id)
		}
	}
}

func TestWrongKeysAreRefused(t *testing.T) {
	for _, key := range []config.Hidden{"x", "id:", ":aa", "id:nothex"} {
		if _, err := ghost.New(config.Connector{BaseURL: "https://x", Credentials: map[string]config.Hidden{"admin_key": key}}, nil); err == nil || strings.Contains(err.Error(), "nothex") {
			t.Errorf("%q: %v", string(key), err)
		}
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	id := newSim(t).Create("T", "x")
	connectortest.SameIDs(t, "ghost", "secret", nil,
		connectortest.Webhook{Name: "a post", Want: []string{id}, Body: `{"post":{"current":{"id":"` + id + `","title":"T","status":"published","html":"<p>x</p>","updated_at":"2026-05-04T12:00:00.000Z"},"previous":{}}}`},
		connectortest.Webhook{Name: "a deleted page", Want: []string{id}, Body: `{"page":{"current":{},"previous":{"id":"` + id + `"}}}`},
	)
}
