package slack_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/slack"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

type sim struct {
	*connectortest.Docs
	fail string
}

func ts(t time.Time) string { return fmt.Sprintf("%d.000%03d", t.Unix(), 200) }

// newSim is a team with one channel, whose documents are threads: a change is a reply. Three messages a page.
func newSim(t testing.TB) *sim {
	s := &sim{Docs: &connectortest.Docs{}}
	s.ID = func(int) string { return "T1/C1/" + ts(s.API.Now()) }
	root := func(x connectortest.Doc) map[string]any {
		m := map[string]any{"type": "message", "ts": ts(x.Created), "user": "U1", "text": x.Title + " &amp; <https://x/y|the page>"}
		if x.Version == 1 {
			m["text"] = x.Title + "\n" + strings.ReplaceAll(x.Text, "&", "&amp;")
		} else {
			m["thread_ts"], m["latest_reply"] = ts(x.Created), ts(x.Updated)
		}
		return m
	}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, m map[string]any) {
		if m["ok"] = true; s.fail != "" {
			m = map[string]any{"ok": false, "error": s.fail}
		}
		connectortest.Answer(w, 200, m)
	}
	mux.HandleFunc("/api/auth.test", func(w http.ResponseWriter, _ *http.Request) {
		connectortest.Answer(w, 200, map[string]any{"ok": true, "team_id": "T1", "url": "https://acme.slack.com/"})
	})
	mux.HandleFunc("/api/conversations.history", func(w http.ResponseWriter, r *http.Request) {
		oldest, _ := strconv.ParseInt(r.FormValue("oldest"), 10, 64)
		messages := []map[string]any{{"type": "message", "subtype": "channel_join", "ts": ts(s.API.Now()), "text": "joined"}}
		for _, x := range s.Newest() {
			if x.Created.Unix() >= oldest {
				messages = append(messages, root(x))
			}
		}
		from, _ := strconv.Atoi(r.FormValue("cursor"))
		page, next := connectortest.Cut(messages, from, 3)
		meta := map[string]any{"next_cursor": ""}
		if next >= 0 {
			meta["next_cursor"] = strconv.Itoa(next)
		}
		answer(w, map[string]any{"messages": page, "has_more": next >= 0, "response_metadata": meta})
	})
	mux.HandleFunc("/api/conversations.replies", func(w http.ResponseWriter, r *http.Request) {
		x, ok := s.Find("T1/C1/" + r.FormValue("ts"))
		if !ok {
			connectortest.Answer(w, 200, map[string]any{"ok": false, "error": "thread_not_found"})
			return
		}
		messages := []map[string]any{root(x)}
		if x.Version > 1 {
			messages = append(messages, map[string]any{"type": "message", "ts": ts(x.Updated), "thread_ts": ts(x.Created), "user": "U2", "text": x.Text})
		}
		answer(w, map[string]any{"messages": messages})
	})
	mux.HandleFunc("/api/files.info", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"file": map[string]any{"name": "plan.md", "title": "Plan", "url_private_download": s.API.URL + "/files/plan.md"}})
	})
	mux.HandleFunc("/files/plan.md", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("the plan")) })
	s.API = connectortest.NewAPI(t, connectortest.Bearer, mux)
	return s
}

func (s *sim) open() (connector.Connector, error) {
	return slack.New(config.Connector{Type: "slack", BaseURL: s.API.URL + "/api", PerSecond: 1e6, Scope: []string{"C1"}, Credentials: map[string]config.Hidden{"token": connectortest.Secret}}, nil)
}

func TestConformance(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) *connectortest.Harness {
		s := newSim(t)
		return s.Harness("T1/C1/1.000001", s.open)
	})
}

func TestFailuresThatComeAs200AreTold(t *testing.T) {
	s := newSim(t)
	id := s.Create("Hello", "x")
	for fail, want := range map[string]error{"token_revoked": connector.ErrUnauthorized, "channel_not_found": connector.ErrUnauthorized, "internal_error": nil, "thread_not_found": connector.ErrGone} {
		s.fail = fail
		c, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
		var e *connector.Error
		if want != nil && !errors.Is(err, want) || want == nil && (!errors.As(err, &e) || e.Permanent) {
			t.Errorf("%s: %v", fail, err)
		}
	}
}

func TestAFileThatHoldsTextIsADocument(t *testing.T) {
	s := newSim(t)
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: "T1/file/F1"}); err != nil || string(d.Content) != "the plan" || d.Format != connector.FormatMarkdown {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestWebhooksAndTheConnectorAgreeOnIDs(t *testing.T) {
	event := func(e string) string {
		return `{"type":"event_callback","team_id":"T1","event_id":"Ev1","event_time":1777896000,"event":` + e + `}`
	}
	connectortest.SameIDs(t, "slack", "secret", nil,
		connectortest.Webhook{Name: "a message", Want: []string{"T1/C1/1777896001.000200"}, Body: event(`{"type":"message","channel":"C1","ts":"1777896001.000200","event_ts":"1777896001.000200","text":"x"}`)},
		connectortest.Webhook{Name: "a reply", Want: []string{"T1/C1/1777896001.000200"}, Body: event(`{"type":"message","channel":"C1","ts":"1777896009.000100","thread_ts":"1777896001.000200","event_ts":"1777896009.000100","text":"x"}`)},
		connectortest.Webhook{Name: "a file", Want: []string{"T1/file/F1"}, Body: event(`{"type":"file_change","file_id":"F1","event_ts":"1777896009.000100"}`)},
	)
}

// A thread that is talked in is asked for new replies however long ago it began; one that has fallen silent is not.
func TestRepliesToOldThreadsAreFoundWhileTheyAreTalkedIn(t *testing.T) {
	s := newSim(t)
	c, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	cursor := ""
	poll := func() (changed []string) {
		t.Helper()
		for more := true; more; {
			p, err := c.Lister.List(t.Context(), cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, ch := range p.Changes {
				changed = append(changed, ch.DocumentID)
			}
			cursor, more = p.Next, p.More
		}
		slices.Sort(changed)
		return changed
	}
	var talked []string
	for i := range 12 { // more than are asked at once
		talked = append(talked, s.Create(fmt.Sprint("Talk ", i), "x"))
	}
	silent := s.Create("Silence", "x")
	for _, id := range append(slices.Clone(talked), silent) {
		s.Update(id, "a reply")
	}
	gone := s.Create("Gone", "x")
	s.Update(gone, "a reply")
	poll()
	s.API.Advance(time.Hour) // so that lists no longer overlap with the first
	poll()
	for day := 10; day <= 40; day += 10 { // from the second time on they are older than the history goes back
		s.API.Advance(10 * 24 * time.Hour)
		for _, id := range talked {
			s.Update(id, fmt.Sprint("a reply on day ", day))
		}
		if day == 20 {
			s.Delete(gone)
		}
		if got := poll(); !slices.Equal(got, slices.Sorted(slices.Values(talked))) {
			t.Errorf("day %d: %v", day, got)
		}
	}
	if got := poll(); len(got) != 0 {
		t.Errorf("nothing was said, but %v changed", got)
	}
	s.API.Advance(15 * 24 * time.Hour)
	poll()
	before := s.API.Requests("/api/conversations.replies")
	s.Update(silent, "after all")
	if got := poll(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if n := s.API.Requests("/api/conversations.replies") - before; n != 0 {
		t.Errorf("%d threads in which nobody talks any more were asked", n)
	}
}
