package github_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/github"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

func (s *sim) open(kinds string) func(testing.TB) connector.Connector {
	return func(t testing.TB) connector.Connector {
		c, err := github.New(config.Connector{
			Type: "github", BaseURL: s.api.URL, PerSecond: 1e6, Credentials: map[string]config.Hidden{"token": connectortest.Secret}, Scope: []string{repo},
			Options: map[string]string{"kinds": kinds, "web_url": s.api.URL},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func TestConformance(t *testing.T) {
	n := 0
	t.Run("files", func(t *testing.T) {
		connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
			s := newSim(t)
			return &connectortest.Harness{
				API: s.api, Open: s.open("files"), Many: 1100, Missing: "acme/docs/none.md",
				Create: func(title, text string) string {
					n++
					path, content := fmt.Sprintf("docs/page %04d.md", n), "# "+title+"\n\n"+text
					s.commit(path, &content)
					return repo + "/" + path
				},
				Update: func(id, text string) { s.commit(strings.TrimPrefix(id, repo+"/"), &text) },
				Delete: func(id string) { s.commit(strings.TrimPrefix(id, repo+"/"), nil) },
			}
		})
	})
	t.Run("wiki", func(t *testing.T) {
		connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
			s := newSim(t)
			return &connectortest.Harness{
				API: s.api, Open: s.open("wiki,releases"), Missing: "acme/docs/wiki/None", Untouched: true,
				Create: func(title, text string) string {
					n++
					name := fmt.Sprintf("Page-%d", n)
					s.write(t, func(w map[string]string) { w[name+".md"] = "# " + title + "\n\n" + text })
					return repo + "/wiki/" + name
				},
				Update: func(id, text string) {
					s.write(t, func(w map[string]string) { w[strings.TrimPrefix(id, repo+"/wiki/")+".md"] = text })
				},
				Delete: func(id string) {
					s.write(t, func(w map[string]string) { delete(w, strings.TrimPrefix(id, repo+"/wiki/")+".md") })
				},
				Also: []string{"release/77"},
			}
		})
	})
	for _, kind := range []string{"issues", "discussions", "pulls"} {
		t.Run(kind, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
				s := newSim(t)
				return &connectortest.Harness{
					API: s.api, Open: s.open(kind), Missing: "1234",
					Create: func(title, text string) string { return strconv.Itoa(s.add(kind, title, text).id) },
					Update: func(id, text string) { s.edit(id, func(t *thread) { t.body = text }) },
					Delete: func(id string) { s.edit(id, func(t *thread) { t.gone = true }) },
				}
			})
		})
	}
}

func TestAThreadIsOneDocumentWithItsComments(t *testing.T) {
	s := newSim(t)
	issue := s.add("issues", "Broken", "it breaks")
	talk := s.add("discussions", "Idea", "an idea")
	for _, th := range []*thread{issue, talk} {
		s.edit(strconv.Itoa(th.id), func(t *thread) { t.comments = []string{"first remark", "second remark"} })
	}
	c := s.open("issues,discussions")(t)
	for id, want := range map[string]string{strconv.Itoa(issue.id): "Comment by ann", strconv.Itoa(talk.id): "Reply by bob"} {
		d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		all := ""
		for _, p := range d.Parts {
			all += p.Title + ": " + string(p.Content) + "\n"
		}
		if !strings.Contains(all, want) || !strings.Contains(all, "first remark") || !strings.Contains(all, "second remark") {
			t.Errorf("%s: %q", id, all)
		}
	}
}

func TestAnIssueIsFoundByItsURLWithoutWalkingTheLists(t *testing.T) {
	s := newSim(t)
	var last *thread
	for i := range 30 {
		last = s.add("issues", fmt.Sprint("Issue ", i), "text")
	}
	c := s.open("issues")(t)
	ref := connector.Ref{ID: strconv.Itoa(last.id), URL: fmt.Sprintf("https://github.com/Acme/Docs/issues/%d", last.number)}
	if _, err := c.Fetcher.Fetch(t.Context(), ref); err != nil || s.api.Requests("") != 1 {
		t.Errorf("%v after %d requests", err, s.api.Requests(""))
	}
	// A URL that leads to another issue, or out of the scope, is not believed.
	for _, u := range []string{fmt.Sprintf("https://github.com/acme/docs/issues/%d", last.number-1), "https://github.com/acme/docs/settings/1"} {
		if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: ref.ID, URL: u}); !errors.Is(err, connector.ErrGone) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: ref.ID, URL: "https://github.com/other/repo/issues/1"}); err != nil || d.Title != "Issue 29" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestALargeFileComesWhole(t *testing.T) {
	s := newSim(t)
	text := strings.Repeat("words and more words\n", 100_000)
	s.commit("big.md", &text)
	d, err := s.open("files")(t).Fetcher.Fetch(t.Context(), connector.Ref{ID: repo + "/big.md"})
	if err != nil || string(d.Content) != text {
		t.Errorf("%d bytes, %v", len(d.Content), err)
	}
}

func TestALimitThatIsToldBy403IsNoRefusal(t *testing.T) {
	s := newSim(t)
	s.api.Break(connectortest.Fault{Status: http.StatusForbidden, Header: map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": strconv.FormatInt(s.api.Now().Unix()+90, 10)}})
	_, err := s.open("files")(t).Lister.List(t.Context(), "")
	if errors.Is(err, connector.ErrUnauthorized) || connector.RetryAfter(err).Seconds() != 90 {
		t.Errorf("%v, wait %s", err, connector.RetryAfter(err))
	}
}

func TestARepositoryThatIsNotSeenIsAnErrorNotAnEmptyList(t *testing.T) {
	s := newSim(t)
	c, err := github.New(config.Connector{BaseURL: s.api.URL, Credentials: map[string]config.Hidden{"token": connectortest.Secret}, Scope: []string{"acme/other"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Sweeper.Sweep(t.Context(), ""); err == nil || errors.Is(err, connector.ErrGone) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	token := map[string]config.Hidden{"token": "x"}
	for name, cfg := range map[string]config.Connector{
		"no token": {Scope: []string{repo}}, "no scope": {Credentials: token}, "no repository": {Credentials: token, Scope: []string{"acme"}},
		"unknown kind":       {Credentials: token, Scope: []string{repo}, Options: map[string]string{"kinds": "stars"}},
		"unknown option":     {Credentials: token, Scope: []string{repo}, Options: map[string]string{"x": "y"}},
		"unknown credential": {Credentials: map[string]config.Hidden{"token": "x", "pass": "y"}, Scope: []string{repo}},
	} {
		if _, err := github.New(cfg, nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// The wiki page of a gollum event has to be found, whatever the page is called: an earlier version took it for a file.
func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	s := newSim(t)
	repository := `"repository":{"full_name":"acme/docs","default_branch":"main","html_url":"https://github.com/acme/docs"}`
	text := "words"
	s.commit("guide/set up.md", &text)
	s.write(t, func(w map[string]string) { w["Run-Book.md"], w["Notes.rest"] = "wiki words", "more" })
	issue, talk, pull := s.add("issues", "I", "b"), s.add("discussions", "D", "b"), s.add("pulls", "P", "b")
	event := func(name string) map[string]string {
		return map[string]string{"X-GitHub-Event": name, "X-GitHub-Delivery": "1"}
	}
	hooks := []connectortest.Webhook{
		{Name: "push", Header: event("push"), Want: []string{"acme/docs/guide/set up.md"},
			Body: `{"ref":"refs/heads/main",` + repository + `,"commits":[{"id":"c1","timestamp":"2026-05-04T12:00:00Z","added":[],"modified":["guide/set up.md"],"removed":[]}]}`},
		{Name: "gollum", Header: event("gollum"), Want: []string{"acme/docs/wiki/Run-Book", "acme/docs/wiki/Notes"},
			Body: `{` + repository + `,"pages":[{"page_name":"Run-Book","title":"Run Book","action":"edited","sha":"x","html_url":"https://github.com/acme/docs/wiki/Run-Book"},{"page_name":"Notes","title":"Notes","action":"created","sha":"y","html_url":"https://github.com/acme/docs/wiki/Notes"}]}`},
		{Name: "issue", Header: event("issues"), Want: []string{strconv.Itoa(issue.id)}, Body: fmt.Sprintf(`{"action":"edited",%s,"issue":{"id":%d,"number":%d,"title":"I","updated_at":"2026-05-04T12:00:00Z"}}`, repository, issue.id, issue.number)},
		{Name: "discussion", Header: event("discussion"), Want: []string{strconv.Itoa(talk.id)}, Body: fmt.Sprintf(`{"action":"edited",%s,"discussion":{"id":%d,"title":"D","updated_at":"2026-05-04T12:00:00Z"}}`, repository, talk.id)},
		{Name: "pull request", Header: event("pull_request"), Want: []string{strconv.Itoa(pull.id)}, Body: fmt.Sprintf(`{"action":"edited",%s,"pull_request":{"id":%d,"title":"P","updated_at":"2026-05-04T12:00:00Z"}}`, repository, pull.id)},
		{Name: "release", Header: event("release"), Want: []string{"release/77"}, Body: `{"action":"published",` + repository + `,"release":{"id":77,"name":"v1"}}`},
	}
	connectortest.SameIDs(t, "github", "secret", nil, hooks...)
	c := s.open("files,wiki,issues,discussions,pulls,releases")(t)
	listed := map[string]bool{}
	for cursor, more := "", true; more; {
		p, err := c.Lister.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range p.Changes {
			listed[ch.DocumentID] = true
		}
		cursor, more = p.Next, p.More
	}
	for _, h := range hooks {
		for _, id := range h.Want {
			if d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); err != nil || len(d.Content) == 0 {
				t.Errorf("%s: fetch of %s: %+v, %v", h.Name, id, d, err)
			}
			if !listed[id] {
				t.Errorf("%s: %s is not in the lists", h.Name, id)
			}
		}
	}
}

// A comment on a pull request names the issue behind it, by an id that no document has: the pull request is fetched instead, by its
// URL or, without one, by the lists. Nothing is taken for deleted.
func TestACommentOnAPullRequestLeadsToThePullRequest(t *testing.T) {
	s := newSim(t)
	s.add("issues", "I", "words")
	pull := s.add("pulls", "P", "words of the pull request")
	behind := strconv.Itoa(pull.id + 500)
	hook := connectortest.Webhook{Name: "comment", Header: map[string]string{"X-GitHub-Event": "issue_comment", "X-GitHub-Delivery": "1"}, Want: []string{behind},
		Body: fmt.Sprintf(`{"action":"created","repository":{"full_name":"acme/docs"},"issue":{"id":%s,"number":%d,"title":"P","html_url":"https://github.com/acme/docs/pull/%d","pull_request":{}},"comment":{"id":2}}`, behind, pull.number, pull.number)}
	connectortest.SameIDs(t, "github", "secret", nil, hook)
	c := s.open("issues")(t) // pull requests are not listed; those that webhooks tell of are taken nevertheless
	for _, address := range []string{fmt.Sprintf("https://github.com/acme/docs/pull/%d", pull.number), ""} {
		_, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: behind, URL: address})
		var elsewhere *connector.ElsewhereError
		if !errors.As(err, &elsewhere) || elsewhere.ID != strconv.Itoa(pull.id) || errors.Is(err, connector.ErrGone) {
			t.Fatalf("%q: %v", address, err)
		}
		if d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: elsewhere.ID, URL: elsewhere.URL}); err != nil || d.Title != "P" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: "1", URL: fmt.Sprintf("https://github.com/acme/docs/pull/%d", pull.number)}); !errors.Is(err, connector.ErrGone) {
		t.Errorf("another id at its URL: %v", err)
	}
}
