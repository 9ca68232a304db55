package gitea_test

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/gitea"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const repo = "acme/docs"

func blob(x connectortest.Doc) string { return fmt.Sprintf("%x", sha1.Sum([]byte(x.Title+x.Text))) }

// newSim is a Gitea with one repository whose documents are of one kind. A page holds three entries.
func newSim(t testing.TB, kind string) *connectortest.Docs {
	d := &connectortest.Docs{}
	d.ID = func(n int) string {
		return map[string]string{"files": fmt.Sprintf("%s/docs/page %d.md", repo, n), "wiki": fmt.Sprintf("%s/wiki/Gr%%C3%%B6%%C3%%9Fe+50%%25+no-%d.-", repo, n), "issues": fmt.Sprint("issue/", 7000+n),
			"pulls": fmt.Sprintf("%s/pulls/%d", repo, n+1), "releases": fmt.Sprint("release/", 300+n)}[kind]
	}
	of := func(k string) []connectortest.Doc {
		if k != kind {
			return nil
		}
		return d.Oldest()
	}
	next := func(w http.ResponseWriter, r *http.Request, n int) {
		if n >= 0 {
			q := r.URL.Query()
			q.Set("page", strconv.Itoa(n/3+1))
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, d.API.URL, r.URL.EscapedPath(), q.Encode()))
		}
	}
	from := func(r *http.Request) int { n, _ := strconv.Atoi(r.FormValue("page")); return 3 * max(n-1, 0) }
	wiki := func(x connectortest.Doc) map[string]any {
		name := strings.TrimPrefix(x.ID, repo+"/wiki/")
		return map[string]any{"title": x.Title, "sub_url": name, "content_base64": base64.StdEncoding.EncodeToString([]byte(x.Text)), "last_commit": map[string]any{"sha": blob(x), "commiter": map[string]any{"date": x.Updated}}}
	}
	issue := func(x connectortest.Doc) map[string]any {
		i := map[string]any{"id": 7000 + x.N, "number": x.N + 1, "title": x.Title, "body": x.Text, "updated_at": x.Updated, "comments": 1, "html_url": fmt.Sprintf("%s/%s/%s/%d", d.API.URL, repo, kind, x.N+1)}
		if kind == "pulls" {
			i["pull_request"] = map[string]any{"merged": false}
		}
		return i
	}
	release := func(x connectortest.Doc) map[string]any {
		return map[string]any{"id": 300 + x.N, "name": "", "tag_name": x.Title, "body": x.Text, "published_at": x.Created, "draft": false}
	}
	mux := http.NewServeMux()
	root := "/api/v1/repos/" + repo
	mux.HandleFunc("GET "+root, func(w http.ResponseWriter, _ *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"default_branch": "main", "empty": false, "has_wiki": true})
	})
	mux.HandleFunc("GET "+root+"/branches/main", func(w http.ResponseWriter, _ *http.Request) {
		head := int64(0)
		for _, x := range d.Ever() {
			head = max(head, x.Updated.Unix())
		}
		connectortest.Answer(w, 200, map[string]any{"commit": map[string]any{"id": fmt.Sprint(head)}})
	})
	mux.HandleFunc("GET "+root+"/git/trees/{sha}", func(w http.ResponseWriter, r *http.Request) {
		all, n := connectortest.Cut(of("files"), from(r), 3)
		out := []any{}
		for _, x := range all {
			out = append(out, map[string]any{"path": strings.TrimPrefix(x.ID, repo+"/"), "type": "blob", "sha": blob(x)})
		}
		connectortest.Answer(w, 200, map[string]any{"tree": out, "truncated": n >= 0, "total_count": len(of("files"))})
	})
	mux.HandleFunc("GET "+root+"/contents/{path...}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := d.Find(repo + "/" + r.PathValue("path")); ok && kind == "files" {
			connectortest.Answer(w, 200, map[string]any{"type": "file", "sha": blob(x), "content": base64.StdEncoding.EncodeToString([]byte("# " + x.Title + "\n" + x.Text))})
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET "+root+"/wiki/pages", func(w http.ResponseWriter, r *http.Request) {
		if len(of("wiki")) == 0 {
			connectortest.NotFound(w)
			return
		}
		all, n := connectortest.Cut(of("wiki"), from(r), 3)
		next(w, r, n)
		out := []any{}
		for _, x := range all {
			out = append(out, wiki(x))
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET "+root+"/wiki/page/{name}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := d.Find(repo + "/wiki/" + r.URL.EscapedPath()[strings.LastIndexByte(r.URL.EscapedPath(), '/')+1:]); ok {
			connectortest.Answer(w, 200, wiki(x))
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET "+root+"/issues", func(w http.ResponseWriter, r *http.Request) {
		since, _ := time.Parse(time.RFC3339, r.FormValue("since"))
		var all []any
		for _, x := range of(r.FormValue("type")) {
			if !x.Updated.Before(since) {
				all = append(all, issue(x))
			}
		}
		cut, n := connectortest.Cut(all, from(r), 3)
		next(w, r, n)
		connectortest.Answer(w, 200, cut)
	})
	mux.HandleFunc("GET "+root+"/issues/{n}", func(w http.ResponseWriter, r *http.Request) {
		for _, x := range append(of("issues"), of("pulls")...) {
			if strconv.Itoa(x.N+1) == r.PathValue("n") {
				connectortest.Answer(w, 200, issue(x))
				return
			}
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET "+root+"/issues/{n}/comments", func(w http.ResponseWriter, _ *http.Request) {
		connectortest.Answer(w, 200, []any{map[string]any{"body": "a remark", "user": map[string]any{"login": "ann"}}})
	})
	mux.HandleFunc("GET "+root+"/releases", func(w http.ResponseWriter, r *http.Request) {
		cut, n := connectortest.Cut(of("releases"), from(r), 3)
		next(w, r, n)
		out := []any{map[string]any{"id": 299, "tag_name": "a draft", "draft": true}}
		for _, x := range cut {
			out = append(out, release(x))
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET "+root+"/releases/{id}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := d.Find("release/" + r.PathValue("id")); ok {
			connectortest.Answer(w, 200, release(x))
			return
		}
		connectortest.NotFound(w)
	})
	d.API = connectortest.NewAPI(t, func(r *http.Request) bool { return r.Header.Get("Authorization") == "token "+connectortest.Secret }, mux)
	return d
}

func open(d *connectortest.Docs, kinds string) func() (connector.Connector, error) {
	return func() (connector.Connector, error) {
		return gitea.New(config.Connector{Type: "gitea", BaseURL: d.API.URL, PerSecond: 1e6, Scope: []string{repo}, Options: map[string]string{"kinds": kinds}, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
	}
}

func TestConformance(t *testing.T) {
	for kind, missing := range map[string]string{"files": repo + "/none.md", "wiki": repo + "/wiki/None", "issues": "issue/1", "pulls": repo + "/pulls/99", "releases": "release/299"} {
		t.Run(kind, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
				d := newSim(t, kind)
				h := d.Harness(missing, open(d, kind))
				h.Untouched = kind == "files" || kind == "releases" // a tree names all files, with their versions; releases do not tell when they were edited
				return h
			})
		})
	}
}

// As Gitea 1.26 names a page whose title is "Größe 50% no-0": https://github.com/go-gitea/gitea/blob/v1.26.0/services/wiki/wiki_path.go
func TestAWikiPageIsFoundByItsEscapedNameOnly(t *testing.T) {
	d := newSim(t, "wiki")
	id := d.Create("Größe 50% no-0", "words")
	c, err := open(d, "wiki")()
	if err != nil {
		t.Fatal(err)
	}
	if doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); err != nil || doc.Title != "Größe 50% no-0" {
		t.Errorf("%s: %+v, %v", id, doc, err)
	}
	for _, other := range []string{"/wiki/Größe+50%25+no-0.-", "/wiki/Gr%c3%b6%c3%9fe+50%25+no-0.-", "/wiki/Gr%25C3%25B6%25C3%259Fe+50%2525+no-0.-", "/wiki/50%"} {
		if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: repo + other}); !errors.Is(err, connector.ErrGone) {
			t.Errorf("%s: %v, want gone", other, err)
		}
	}
}

func TestAnIssueIsFoundByItsURLWithItsComments(t *testing.T) {
	d := newSim(t, "issues")
	id := d.Create("Issue", "text")
	c, err := open(d, "issues")()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id, URL: d.API.URL + "/acme/docs/issues/1#issuecomment-3"})
	if err != nil || len(doc.Parts) != 1 || doc.Parts[0].Title != "Comment by ann" || d.API.Requests("") != 2 {
		t.Errorf("%+v, %v", doc, err)
	}
}

// Who did not ask for pull requests and releases has none, though their webhooks come.
func TestPullRequestsAndReleasesAreReadOnRequestOnly(t *testing.T) {
	for _, kind := range []string{"pulls", "releases"} {
		d := newSim(t, kind)
		id := d.Create("T", "x")
		for kinds, want := range map[string]error{"": connector.ErrGone, "files, " + kind: nil} {
			c, err := open(d, kinds)()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); !errors.Is(err, want) {
				t.Errorf("%s with kinds %q: %v, want %v", id, kinds, err, want)
			}
		}
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	repository := `"repository":{"full_name":"acme/docs","default_branch":"main","html_url":"https://git.example/acme/docs"}`
	event := func(name string) map[string]string {
		return map[string]string{"X-Gitea-Event": name, "X-Gitea-Delivery": "1"}
	}
	pull := `{"number":1,` + repository + `,"action":"edited","pull_request":{"id":12,"number":1,"title":"P","updated_at":"2026-05-04T12:00:00Z"}}`
	remark := `{"action":"created",` + repository + `,"is_pull":true,"comment":{"id":3},"issue":{"id":7000,"number":1,"title":"P","updated_at":"2026-05-04T12:00:00Z"},"pull_request":{"id":12,"number":1}}`
	for _, hook := range []connectortest.Webhook{{Name: "pull request", Header: event("pull_request"), Body: pull}, {Name: "comment on a pull request", Header: event("issue_comment"), Body: remark}} {
		hook.Want = []string{newSim(t, "pulls").Create("T", "x")}
		connectortest.SameIDs(t, "gitea", "secret", nil, hook)
	}
	for kind, hook := range map[string]connectortest.Webhook{
		"releases": {Name: "release", Header: event("release"), Body: `{"action":"updated",` + repository + `,"release":{"id":300,"tag_name":"v1"}}`},
		"files":    {Name: "push", Header: event("push"), Body: `{"ref":"refs/heads/main","total_commits":1,` + repository + `,"commits":[{"id":"c1","timestamp":"2026-05-04T12:00:00Z","added":["docs/page 0.md"],"modified":[],"removed":[]}]}`},
		"wiki":     {Name: "wiki", Header: event("wiki"), Body: `{"action":"edited",` + repository + `,"page":"Gr%C3%B6%C3%9Fe+50%25+no-0.-"}`},
		"issues":   {Name: "issue", Header: event("issues"), Body: `{"action":"edited",` + repository + `,"issue":{"id":7000,"title":"I","updated_at":"2026-05-04T12:00:00Z"}}`},
	} {
		hook.Want = []string{newSim(t, kind).Create("T", "x")}
		connectortest.SameIDs(t, "gitea", "secret", nil, hook)
	}
}
