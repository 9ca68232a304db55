//go:build servers

package servers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const admin = "/ghost/api/admin/"

// site is a real Ghost.
type site struct {
	server
}

func newSite(t *testing.T) site {
	id, hexed, _ := strings.Cut(setting(t, "HOOKMESH_TEST_GHOST_ADMIN_KEY"), ":")
	key, err := hex.DecodeString(hexed)
	if err != nil {
		t.Fatal(err)
	}
	return site{server{t, setting(t, "HOOKMESH_TEST_GHOST"), func(req *http.Request) { req.Header.Set("Authorization", "Ghost "+token(id, key)) }}}
}

// token: https://docs.ghost.org/admin-api#token-authentication
func token(id string, key []byte) string {
	now, part := time.Now().Unix(), base64.RawURLEncoding.EncodeToString
	signed := part(fmt.Appendf(nil, `{"alg":"HS256","typ":"JWT","kid":%q}`, id)) + "." + part(fmt.Appendf(nil, `{"iat":%d,"exp":%d,"aud":"/admin/"}`, now, now+60))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + part(mac.Sum(nil))
}

type entry struct {
	ID        string `json:"id"`
	UpdatedAt string `json:"updated_at"`
}

// of are the posts or pages of the site. Removing one takes it back to a draft, which can be undone; deleted deletes it for good.
func (s site) of(name string, remove bool) kind {
	list := name + "s"
	change := func(id string, fields map[string]any) {
		at := admin + list + "/" + id + "/?source=html"
		var old map[string][]entry
		s.call("GET", at, nil, &old)
		fields["updated_at"] = old[list][0].UpdatedAt // Ghost wants to be told which state was seen
		s.call("PUT", at, map[string]any{list: []any{fields}}, nil)
	}
	k := kind{name: name,
		create: func(title, text string) string {
			var made map[string][]entry
			s.call("POST", admin+list+"/?source=html", map[string]any{list: []any{map[string]any{"title": title, "html": "<p>" + text + "</p>", "status": "published"}}}, &made)
			return made[list][0].ID
		},
		update: func(id, text string) { change(id, map[string]any{"html": "<p>" + text + "</p>"}) },
		remove: func(id string) { s.call("DELETE", admin+list+"/"+id+"/", nil, nil) },
	}
	if !remove {
		k.name += " taken back"
		k.remove = func(id string) { change(id, map[string]any{"status": "draft"}) }
		k.restore = func(id string) { change(id, map[string]any{"status": "published"}) }
	}
	return k
}

func TestRealGhostsWebhooksBecomeSearchable(t *testing.T) {
	s := newSite(t)
	w := newWorld(t, "ghost", fmt.Sprintf(`{type: ghost, base_url: %q, credentials: {admin_key: %q}}`, s.url, setting(t, "HOOKMESH_TEST_GHOST_ADMIN_KEY")))
	for _, of := range []string{"post", "page"} {
		for _, event := range []string{"published", "published.edited", "unpublished", "deleted"} {
			event = of + "." + event
			var made struct{ Webhooks []entry }
			s.call("POST", admin+"webhooks/", map[string]any{"webhooks": []any{map[string]any{"event": event, "target_url": w.webhook(), "secret": secret, "name": event}}}, &made)
			t.Cleanup(func() { s.call("DELETE", admin+"webhooks/"+made.Webhooks[0].ID+"/", nil, nil) })
		}
	}
	kinds := []kind{s.of("post", true), s.of("page", true), s.of("post", false), s.of("page", false)}
	for _, k := range kinds {
		w.lives(k)
	}
	w.recovers(kinds)
}
