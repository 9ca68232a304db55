package gitlab_test

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/gitlab"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const project = "acme/team/docs"

// sim is a GitLab with one project; its documents are of one kind. A page holds three entries.
type sim struct {
	*connectortest.Docs
	kind string
	off  string
}

func blob(x connectortest.Doc) string { return fmt.Sprintf("%x", sha1.Sum([]byte(x.Title+x.Text))) }

func newSim(t testing.TB, kind string) *sim {
	s := &sim{Docs: &connectortest.Docs{}, kind: kind}
	s.ID = func(n int) string {
		return map[string]string{"files": fmt.Sprintf("%s/docs/page %d.md", project, n), "wiki": fmt.Sprintf("%s/wiki/guides/page-%d", project, n), "issues": fmt.Sprint("issue/", 7000+n), "merge_requests": fmt.Sprint("merge_request/", 7000+n)}[kind]
	}
	path := func(x connectortest.Doc) string { return strings.TrimPrefix(x.ID, project+"/") }
	next := func(w http.ResponseWriter, r *http.Request, n int) {
		if n >= 0 {
			q := r.URL.Query()
			q.Set("page", strconv.Itoa(n))
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, s.API.URL, r.URL.EscapedPath(), q.Encode()))
		}
	}
	page := func(r *http.Request) int { n, _ := strconv.Atoi(r.FormValue("page")); return n }
	mux := http.NewServeMux()
	root := "/api/v4/projects/{project}"
	mux.HandleFunc("GET "+root, func(w http.ResponseWriter, r *http.Request) {
		about := map[string]any{"id": 1, "default_branch": "main", "path_with_namespace": project}
		if s.off != "" {
			about[s.off+"_access_level"] = "disabled"
		}
		connectortest.Answer(w, 200, about)
	})
	mux.HandleFunc("GET "+root+"/repository/branches/main", func(w http.ResponseWriter, _ *http.Request) {
		head := int64(0)
		for _, x := range s.Ever() {
			head = max(head, x.Updated.Unix())
		}
		connectortest.Answer(w, 200, map[string]any{"commit": map[string]any{"id": fmt.Sprint(head)}})
	})
	mux.HandleFunc("GET "+root+"/repository/tree", func(w http.ResponseWriter, r *http.Request) {
		all, n := connectortest.Cut(s.Oldest(), page(r), 3)
		next(w, r, n)
		out := []any{map[string]any{"id": "x", "path": "docs", "type": "tree"}, map[string]any{"id": "y", "path": "main.go", "type": "blob"}}
		for _, x := range all {
			out = append(out, map[string]any{"id": blob(x), "path": path(x), "type": "blob"})
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET "+root+"/repository/compare", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.ParseInt(r.FormValue("from"), 10, 64)
		diffs := []any{}
		for _, x := range s.Ever() {
			if x.Updated.Unix() > from {
				diffs = append(diffs, map[string]any{"old_path": path(x), "new_path": path(x), "deleted_file": x.Deleted})
			}
		}
		connectortest.Answer(w, 200, map[string]any{"diffs": diffs})
	})
	mux.HandleFunc("GET "+root+"/repository/files/{name}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := s.Find(project + "/" + r.PathValue("name")); ok && s.kind == "files" {
			connectortest.Answer(w, 200, map[string]any{"encoding": "base64", "content": base64.StdEncoding.EncodeToString([]byte("# " + x.Title + "\n" + x.Text)), "blob_id": blob(x)})
			return
		}
		connectortest.NotFound(w)
	})
	mux.HandleFunc("GET "+root+"/wikis", func(w http.ResponseWriter, _ *http.Request) {
		out := []any{}
		for _, x := range s.All() {
			if s.kind == "wiki" {
				out = append(out, map[string]any{"slug": strings.TrimPrefix(path(x), "wiki/"), "title": x.Title, "format": "markdown"})
			}
		}
		connectortest.Answer(w, 200, out)
	})
	mux.HandleFunc("GET "+root+"/wikis/{slug}", func(w http.ResponseWriter, r *http.Request) {
		if x, ok := s.Find(project + "/wiki/" + r.PathValue("slug")); ok {
			connectortest.Answer(w, 200, map[string]any{"slug": r.PathValue("slug"), "title": x.Title, "format": "markdown", "content": x.Text})
			return
		}
		connectortest.NotFound(w)
	})
	issue := func(x connectortest.Doc, kind string) map[string]any {
		return map[string]any{"id": 7000 + x.N, "iid": x.N + 1, "title": x.Title, "description": x.Text, "updated_at": x.Updated, "web_url": fmt.Sprintf("%s/%s/-/%s/%d", s.API.URL, project, kind, x.N+1)}
	}
	for _, kind := range []string{"issues", "merge_requests"} {
		mux.HandleFunc("GET "+root+"/"+kind, func(w http.ResponseWriter, r *http.Request) {
			after, _ := time.Parse(time.RFC3339, r.FormValue("updated_after"))
			var all []any
			docs := s.All()
			if r.FormValue("sort") == "desc" {
				docs = s.Newest()
			}
			for _, x := range docs {
				if !x.Updated.Before(after) && s.kind == kind {
					all = append(all, issue(x, kind))
				}
			}
			cut, n := connectortest.Cut(all, page(r), 3)
			next(w, r, n)
			connectortest.Answer(w, 200, cut)
		})
		mux.HandleFunc("GET "+root+"/"+kind+"/{iid}", func(w http.ResponseWriter, r *http.Request) {
			for _, x := range s.All() {
				if strconv.Itoa(x.N+1) == r.PathValue("iid") && s.kind == kind {
					connectortest.Answer(w, 200, issue(x, kind))
					return
				}
			}
			connectortest.NotFound(w)
		})
		mux.HandleFunc("GET "+root+"/"+kind+"/{iid}/notes", func(w http.ResponseWriter, r *http.Request) {
			notes := []any{map[string]any{"body": "a remark", "author": map[string]any{"name": "Ann"}}, map[string]any{"body": "changed the label", "system": true}}
			cut, n := connectortest.Cut(notes, page(r), 1)
			next(w, r, n)
			connectortest.Answer(w, 200, cut)
		})
	}
	s.API = connectortest.NewAPI(t, func(r *http.Request) bool {
		return r.Header.Get("Private-Token") == connectortest.Secret && strings.Contains(r.URL.EscapedPath(), url.PathEscape(project))
	}, mux)
	return s
}

func (s *sim) open(kinds string) func() (connector.Connector, error) {
	return func() (connector.Connector, error) {
		return gitlab.New(config.Connector{Type: "gitlab", BaseURL: s.API.URL, PerSecond: 1e6, Scope: []string{project}, Options: map[string]string{"kinds": kinds}, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
	}
}

func TestConformance(t *testing.T) {
	for kind, missing := range map[string]string{"files": project + "/none.md", "wiki": project + "/wiki/none", "issues": "issue/1", "merge_requests": "merge_request/1"} {
		t.Run(kind, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
				s := newSim(t, kind)
				if kind == "wiki" {
					h := s.Harness(missing, s.open("wiki issues")) // the wiki comes on one page
					h.Untouched = true
					return h
				}
				return s.Harness(missing, s.open(kind))
			})
		})
	}
}

func TestWhatIsSwitchedOffIsEmptyAndWhatIsNotSeenIsAnError(t *testing.T) {
	s := newSim(t, "issues")
	s.off = "wiki"
	c, err := s.open("wiki")()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Lister.List(t.Context(), ""); err != nil || len(p.Changes) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	s.API.Break(connectortest.Fault{Status: 404})
	if _, err := c.Sweeper.Sweep(t.Context(), ""); err == nil || errors.Is(err, connector.ErrGone) {
		t.Errorf("%v", err)
	}
}

func TestAnIssueIsFoundByItsURLWithItsComments(t *testing.T) {
	s := newSim(t, "issues")
	id := ""
	for range 10 {
		id = s.Create("Issue", "text")
	}
	c, err := s.open("issues")()
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id, URL: s.API.URL + "/" + project + "/-/issues/10#note_5"})
	if err != nil || len(d.Parts) != 1 || d.Parts[0].Title != "Comment by Ann" || s.API.Requests("") != 3 {
		t.Errorf("%+v, %v, %d requests", d, err, s.API.Requests(""))
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	about := `"project":{"id":1,"path_with_namespace":"acme/team/docs","default_branch":"main","web_url":"https://gitlab.example/acme/team/docs"}`
	header := map[string]string{"Idempotency-Key": "1", "X-Gitlab-Token": "secret"}
	for kind, hook := range map[string]connectortest.Webhook{
		"files":          {Name: "push", Body: `{"object_kind":"push","ref":"refs/heads/main","total_commits_count":1,` + about + `,"commits":[{"id":"c1","timestamp":"2026-05-04T12:00:00Z","added":[],"modified":["docs/page 0.md"],"removed":[]}]}`},
		"wiki":           {Name: "wiki", Body: `{"object_kind":"wiki_page",` + about + `,"object_attributes":{"slug":"guides/page-0","title":"T","action":"update","content":"x"}}`},
		"issues":         {Name: "issue", Body: `{"object_kind":"issue",` + about + `,"object_attributes":{"id":7000,"iid":1,"title":"T","action":"update","updated_at":"2026-05-04T12:00:00Z"}}`},
		"merge_requests": {Name: "merge request", Body: `{"object_kind":"merge_request",` + about + `,"object_attributes":{"id":7000,"iid":1,"title":"T","action":"update","updated_at":"2026-05-04T12:00:00Z"}}`},
	} {
		hook.Header, hook.Want = header, []string{newSim(t, kind).Create("T", "x")}
		connectortest.SameIDs(t, "gitlab", "secret", nil, hook)
	}
}
