//go:build servers

package gitea_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/gitea"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

var repos atomic.Int64

// real is a repository of a real Gitea whose pages hold three entries.
type real struct {
	connectortest.Real
	repo, api string
	// numbers are those of issues, titles those of wiki pages, by their ids.
	numbers map[string]int
	titles  map[string]string
}

func newReal(t testing.TB) *real {
	token := connectortest.Setting(t, "HOOKMESH_TEST_GITEA_TOKEN")
	r := &real{Real: connectortest.Real{T: t, URL: connectortest.Setting(t, "HOOKMESH_TEST_GITEA"), Authorize: func(req *http.Request) { req.Header.Set("Authorization", "token "+token) }}, numbers: map[string]int{}, titles: map[string]string{}}
	var made struct {
		FullName string `json:"full_name"`
	}
	r.Call("POST", "/api/v1/user/repos", map[string]any{"name": fmt.Sprintf("docs-%d-%d", time.Now().UnixNano(), repos.Add(1)), "auto_init": false, "default_branch": "main"}, &made)
	r.repo, r.api = made.FullName, "/api/v1/repos/"+made.FullName
	return r
}

func (r *real) open(t testing.TB, kinds string) connector.Connector {
	c, err := gitea.New(config.Connector{Type: "gitea", BaseURL: r.URL, PerSecond: 1e6, Scope: []string{r.repo}, Options: map[string]string{"kinds": kinds},
		Credentials: map[string]config.Hidden{"token": config.Hidden(connectortest.Setting(t, "HOOKMESH_TEST_GITEA_TOKEN"))}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (r *real) file(method, path, text string) string {
	body := map[string]any{"content": b64(text), "message": method}
	at := r.api + "/contents/" + (&url.URL{Path: path}).EscapedPath()
	if method != "POST" {
		var old struct{ SHA string }
		r.Call("GET", at, nil, &old)
		body["sha"] = old.SHA
	}
	r.Call(method, at, body, nil)
	return r.repo + "/" + path
}

// wiki writes a page; name is empty for a new one.
func (r *real) wiki(name, title, text string) string {
	var page struct {
		SubURL string `json:"sub_url"`
	}
	method, at := "POST", r.api+"/wiki/new"
	if name != "" {
		method, at = "PATCH", r.api+"/wiki/page/"+name
	}
	r.Call(method, at, map[string]any{"title": title, "content_base64": b64("# " + title + "\n" + text)}, &page)
	id := r.repo + "/wiki/" + page.SubURL
	r.titles[id] = title
	return id
}

func (r *real) issue(title, text string) string {
	var i struct {
		ID     int64
		Number int
	}
	r.Call("POST", r.api+"/issues", map[string]any{"title": title, "body": text}, &i)
	id := fmt.Sprint("issue/", i.ID)
	r.numbers[id] = i.Number
	return id
}

// branch makes a branch with a change of its own, and the first commit before it, if there is none.
func (r *real) branch() string {
	var about struct{ Empty bool }
	r.Call("GET", r.api, nil, &about)
	if about.Empty {
		r.file("POST", "start.txt", "the first commit")
	}
	name := fmt.Sprint("branch-", repos.Add(1))
	r.Call("POST", r.api+"/contents/"+name+".txt", map[string]any{"content": b64(name), "message": name, "new_branch": name}, nil)
	return name
}

func (r *real) pull(title, text string) string {
	var p struct{ Number int }
	r.Call("POST", r.api+"/pulls", map[string]any{"title": title, "body": text, "head": r.branch(), "base": "main"}, &p)
	return fmt.Sprint(r.repo, "/pulls/", p.Number)
}

func (r *real) release(title, text string) string {
	var made struct{ ID int64 }
	r.Call("POST", r.api+"/releases", map[string]any{"tag_name": "v-" + r.branch(), "name": title, "body": text}, &made)
	return fmt.Sprint("release/", made.ID)
}

// number is that of an issue or a pull request; empty for everything else.
func (r *real) number(id string) string {
	if n := r.numbers[id]; n > 0 {
		return fmt.Sprint(n)
	}
	n, ok := strings.CutPrefix(id, r.repo+"/pulls/")
	if !ok {
		return ""
	}
	return n
}

func (r *real) harness(kind string) *connectortest.Harness {
	h := &connectortest.Harness{Open: func(t testing.TB) connector.Connector { return r.open(t, kind) }, Advance: func(time.Duration) {}, Untouched: true}
	rest := func(id string) string { return strings.TrimPrefix(id, r.repo+"/") }
	name := func(id string) string { return strings.TrimPrefix(rest(id), "wiki/") }
	n := 0
	switch kind {
	case "files":
		h.Missing = r.repo + "/none.md"
		h.Create = func(title, text string) string {
			n++
			return r.file("POST", fmt.Sprintf("docs/page #%d 50%% ä.md", n), "# "+title+"\n"+text)
		}
		h.Update = func(id, text string) { r.file("PUT", rest(id), text) }
		h.Delete = func(id string) { r.file("DELETE", rest(id), "") }
	case "wiki":
		h.Open = func(t testing.TB) connector.Connector { return r.open(t, "wiki,issues") } // the wiki alone would be one page
		h.Missing = r.repo + "/wiki/None"
		h.Create = func(title, text string) string {
			n++
			return r.wiki("", fmt.Sprintf("%s no-%d 50%% ä/b", title, n), text)
		}
		h.Update = func(id, text string) { r.wiki(name(id), r.titles[id], text) }
		h.Delete = func(id string) { r.Call("DELETE", r.api+"/wiki/page/"+name(id), nil, nil) }
	case "pulls":
		h.Missing = r.repo + "/pulls/9999"
		h.Create = r.pull
		h.Update = func(id, text string) { r.Call("PATCH", r.api+"/"+rest(id), map[string]any{"body": text}, nil) }
		h.Delete = func(id string) { r.Call("DELETE", r.api+"/issues/"+strings.TrimPrefix(rest(id), "pulls/"), nil, nil) }
	case "releases":
		h.Missing = "release/999999999"
		h.Create = r.release
		h.Update = func(id, text string) {
			r.Call("PATCH", r.api+"/releases/"+strings.TrimPrefix(id, "release/"), map[string]any{"body": text}, nil)
		}
		h.Delete = func(id string) { r.Call("DELETE", r.api+"/releases/"+strings.TrimPrefix(id, "release/"), nil, nil) }
	default:
		h.Missing = "issue/999999999"
		h.Create = r.issue
		h.Update = func(id, text string) {
			r.Call("PATCH", fmt.Sprintf("%s/issues/%d", r.api, r.numbers[id]), map[string]any{"body": text}, nil)
		}
		h.Delete = func(id string) { r.Call("DELETE", fmt.Sprintf("%s/issues/%d", r.api, r.numbers[id]), nil, nil) }
	}
	return h
}

func TestRealConformance(t *testing.T) {
	for _, kind := range []string{"files", "wiki", "issues", "pulls", "releases"} {
		t.Run(kind, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness { return newReal(t).harness(kind) })
		})
	}
}

// The suite's walks overlap by minutes; here the cursor's time lies between two changes.
func TestRealListsOnlyWhatChangedSinceTheCursor(t *testing.T) {
	for _, kind := range []string{"wiki", "issues", "pulls"} {
		t.Run(kind, func(t *testing.T) {
			h := newReal(t).harness(kind)
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

func TestRealWebhooksAreAuthenticAndNameTheConnectorsDocuments(t *testing.T) {
	const secret = "a secret of the webhook"
	r := newReal(t)
	hooks := connectortest.NewHooks(t, "gitea", secret)
	r.Call("POST", r.api+"/hooks", map[string]any{"type": "gitea", "active": true, "events": []string{"push", "wiki", "issues", "issue_comment", "pull_request", "release"},
		"config": map[string]string{"url": hooks.URL, "content_type": "json", "secret": secret}}, nil)
	for _, kind := range []string{"files", "wiki", "issues", "pulls", "releases"} {
		h := r.harness(kind)
		id := h.Create("Run book", "first words")
		hooks.Expect(t, id, "created")
		h.Update(id, "second words")
		hooks.Expect(t, id, "updated")
		doc, err := h.Open(t).Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
		if err != nil || !strings.Contains(string(doc.Content), "second words") {
			t.Errorf("%s, as a webhook names it: %q, %v", id, doc.Content, err)
		}
		if n := r.number(id); n != "" {
			r.Call("POST", r.api+"/issues/"+n+"/comments", map[string]string{"body": "a remark"}, nil)
			hooks.Expect(t, id, "updated")
		}
		h.Delete(id)
		hooks.Expect(t, id, "deleted")
	}
}
