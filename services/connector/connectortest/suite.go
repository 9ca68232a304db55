package connectortest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
)

// Harness is a simulated source, and how people write in it. All ids are those that the connector has to use.
type Harness struct {
	// Open makes a connector anew, as a restart does.
	Open func(t testing.TB) connector.Connector
	// API is what simulates the source; nil: the source is no server, and cannot be broken.
	API *API
	// Create makes a document, and returns its id.
	Create func(title, text string) (id string)
	// Update changes its text.
	Update func(id, text string)
	// Delete removes it.
	Delete func(id string)
	// Advance lets time pass at the source; nil: API.Advance.
	Advance func(time.Duration)
	// Many is how many documents make the list several pages long.
	Many int
	// Refused is the status by which the source refuses credentials; 0: 401.
	Refused int
	// Untouched says that lists name documents that did not change, too: the source has no better list.
	Untouched bool
	// Also are ids that are always there.
	Also []string
	// Missing is an id that could be one but is not there.
	Missing string
}

// maxPages ends a list that never does.
const maxPages = 2000

// Run checks everything that package connector promises of a connector.
func Run(t *testing.T, make func(t *testing.T) *Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Harness)
	}{
		{"a document is fetched with its words, and what is not there is gone", fetches},
		{"everything is listed, also when a crash comes between any two pages", listsEverything},
		{"what changes is listed from the cursor on", listsChanges},
		{"an edit while a list is read hides nothing", hidesNothing},
		{"what was deleted is found out", findsDeletions},
		{"a failure in the middle of a list loses nothing", survivesFailures},
		{"failures are told apart, and tell no secret", tellsFailures},
		{"a cursor that is not ours is refused", refusesCursors},
		{"a cancelled call ends", ends},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := make(t)
			if h.Advance == nil {
				h.Advance = h.API.Advance
			}
			if h.Many == 0 {
				h.Many = 7
			}
			c.run(t, h)
		})
	}
}

func fetches(t *testing.T, h *Harness) {
	id := h.Create("Set up", "first words & <more> of it")
	c := h.Open(t)
	doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text(doc), "first words") || doc.Format == "" {
		t.Errorf("fetched %q as %q", text(doc), doc.Format)
	}
	if !strings.Contains(doc.Title, "Set up") && !strings.Contains(text(doc), "Set up") {
		t.Errorf("the title is lost: %q, %q", doc.Title, text(doc))
	}
	h.Update(id, "second words")
	if doc, err = c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id}); err != nil || !strings.Contains(text(doc), "second words") {
		t.Errorf("after an update: %q, %v", text(doc), err)
	}
	h.Delete(id)
	for _, gone := range []string{id, h.Missing, "", "../../etc/passwd", "a\x00b", strings.Repeat("x", 5000)} {
		if _, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: gone}); !errors.Is(err, connector.ErrGone) {
			t.Errorf("fetch of %.40q: %v, want gone", gone, err)
		}
	}
}

// text is all that a document says.
func text(d connector.Document) string {
	all := string(d.Content)
	for _, p := range d.Parts {
		all += "\n" + p.Title + "\n" + string(p.Content)
	}
	return all
}

// list is List or Sweep.
type list func(ctx context.Context, cursor string) (connector.Page, error)

// walk reads to the end, with a new connector for each page, as after a crash, and returns what is there by its id.
func walk(t *testing.T, h *Harness, of func(connector.Connector) list, cursor string) (found map[string]connector.Change, next string, pages int) {
	t.Helper()
	found = map[string]connector.Change{}
	for pages = 1; pages < maxPages; pages++ {
		p, err := of(h.Open(t))(t.Context(), cursor)
		if err != nil {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, c := range p.Changes {
			if c.DocumentID == "" {
				t.Fatal("a change without an id")
			}
			if c.Deleted {
				delete(found, c.DocumentID)
				continue
			}
			found[c.DocumentID] = c
		}
		if p.More && (p.Next == "" || p.Next == cursor) {
			t.Fatalf("page %d says that there is more, and does not say where", pages)
		}
		if p.Next != "" {
			cursor = p.Next
		}
		if !p.More {
			return found, cursor, pages
		}
	}
	t.Fatal("the list has no end")
	return nil, "", 0
}

func lists(c connector.Connector) list  { return c.Lister.List }
func sweeps(c connector.Connector) list { return c.Sweeper.Sweep }

func listsEverything(t *testing.T, h *Harness) {
	var ids []string
	for i := range h.Many {
		ids = append(ids, h.Create(fmt.Sprint("Page ", i), fmt.Sprint("text ", i)))
	}
	ids = append(ids, h.Also...)
	slices.Sort(ids)
	found, _, pages := walk(t, h, lists, "")
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, ids) {
		t.Fatalf("listed %v, want %v", got, ids)
	}
	if pages < 2 {
		t.Errorf("%d documents came on one page: the test shows nothing", h.Many)
	}
	if c := h.Open(t); c.Sweeper != nil {
		swept, _, _ := walk(t, h, sweeps, "")
		if got := slices.Sorted(maps.Keys(swept)); !slices.Equal(got, ids) {
			t.Errorf("swept %v, want %v", got, ids)
		}
		for id, s := range swept {
			if l := found[id]; l.Version != s.Version && l.Version != "" && s.Version != "" {
				t.Errorf("%s has version %q in the list and %q in the sweep", id, l.Version, s.Version)
			}
		}
	}
	// Every document that is listed can be fetched by what the list says of it.
	c := h.Open(t)
	for id, change := range found {
		doc, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id, URL: change.URL})
		if err != nil {
			t.Errorf("fetch of %s, which was listed: %v", id, err)
		}
		if doc.Version != "" && change.Version != "" && doc.Version != change.Version {
			t.Errorf("%s was listed as version %q and fetched as %q", id, change.Version, doc.Version)
		}
	}
}

func listsChanges(t *testing.T, h *Harness) {
	var ids []string
	for i := range h.Many {
		ids = append(ids, h.Create(fmt.Sprint("Page ", i), "old"))
	}
	h.Advance(time.Hour)
	_, cursor, _ := walk(t, h, lists, "")
	h.Advance(time.Hour)
	_, cursor, _ = walk(t, h, lists, cursor)
	h.Advance(time.Hour)
	h.Update(ids[1], "new words")
	added := h.Create("Added", "fresh")
	found, cursor, _ := walk(t, h, lists, cursor)
	for _, id := range []string{ids[1], added} {
		if _, ok := found[id]; !ok {
			t.Errorf("%s changed and was not listed; listed were %v", id, slices.Sorted(maps.Keys(found)))
		}
	}
	if !h.Untouched && len(found) != 2 {
		t.Errorf("%d documents were listed, 2 changed: %v", len(found), slices.Sorted(maps.Keys(found)))
	}
	// The source shows a change late: its time lies a little before the walk that did not see it.
	h.Update(ids[2], "late words")
	h.Advance(30 * time.Second)
	if found, _, _ = walk(t, h, lists, cursor); found[ids[2]].DocumentID == "" {
		t.Errorf("a change right after a poll was not listed by the next one")
	}
}

// hidesNothing edits a document after each page: lists that are paged by offsets and ordered by the time of the last change move up.
// What was edited may come with the next poll.
func hidesNothing(t *testing.T, h *Harness) {
	var ids []string
	for i := range 2 * h.Many {
		ids = append(ids, h.Create(fmt.Sprint("Page ", i), "old"))
		h.Advance(time.Minute)
	}
	found, cursor := map[string]bool{}, ""
	for n := range maxPages {
		p, err := h.Open(t).Lister.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Changes {
			found[c.DocumentID] = true
		}
		if p.Next != "" {
			cursor = p.Next
		}
		if !p.More {
			break
		}
		h.Advance(time.Minute)
		if n < len(ids)/2 {
			h.Update(ids[n], "new")
		}
	}
	next, _, _ := walk(t, h, lists, cursor)
	for _, id := range ids {
		if _, later := next[id]; !found[id] && !later {
			t.Errorf("%s was not listed", id)
		}
	}
}

func findsDeletions(t *testing.T, h *Harness) {
	var ids []string
	for i := range h.Many {
		ids = append(ids, h.Create(fmt.Sprint("Page ", i), "old"))
	}
	h.Advance(time.Hour)
	_, cursor, _ := walk(t, h, lists, "")
	h.Advance(time.Hour)
	_, cursor, _ = walk(t, h, lists, cursor)
	h.Advance(time.Hour)
	h.Delete(ids[0])
	c := h.Open(t)
	if c.Sweeper != nil {
		swept, _, _ := walk(t, h, sweeps, "")
		if got, want := slices.Sorted(maps.Keys(swept)), slices.Sorted(slices.Values(append(ids[1:], h.Also...))); !slices.Equal(got, want) {
			t.Errorf("after a deletion the sweep names %v, want %v", got, want)
		}
		return
	}
	for range maxPages {
		p, err := c.Lister.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(p.Changes, func(c connector.Change) bool { return c.DocumentID == ids[0] && c.Deleted }) {
			return
		}
		if !p.More {
			break
		}
		cursor = p.Next
	}
	t.Error("the deletion was not listed, and there is no sweep")
}

func survivesFailures(t *testing.T, h *Harness) {
	if h.API == nil {
		return
	}
	var ids []string
	for i := range h.Many {
		ids = append(ids, h.Create(fmt.Sprint("Page ", i), "text"))
	}
	ids = append(ids, h.Also...)
	slices.Sort(ids)
	found := map[string]bool{}
	cursor := ""
	for failAt := 0; failAt < maxPages; failAt++ {
		c := h.Open(t)
		h.API.Break(Fault{Status: http.StatusBadGateway, Times: 1, After: failAt})
		for {
			p, err := c.Lister.List(t.Context(), cursor)
			if err != nil {
				break
			}
			for _, ch := range p.Changes {
				found[ch.DocumentID] = true
			}
			cursor = p.Next
			if !p.More {
				h.API.Mend()
				if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, ids) {
					t.Errorf("listed %v, want %v", got, ids)
				}
				return
			}
		}
		h.API.Mend()
	}
	t.Fatal("the list has no end")
}

func tellsFailures(t *testing.T, h *Harness) {
	if h.API == nil {
		return
	}
	id := h.Create("Page", "text")
	refused := h.Refused
	if refused == 0 {
		refused = http.StatusUnauthorized
	}
	for _, tt := range []struct {
		name      string
		fault     Fault
		is        error
		permanent bool
		after     time.Duration
	}{
		{"over the limit", Fault{Status: 429, Header: map[string]string{"Retry-After": "37"}}, nil, false, 37 * time.Second},
		{"unavailable, with a pause", Fault{Status: 503, Header: map[string]string{"Retry-After": "11"}}, nil, false, 11 * time.Second},
		{"broken", Fault{Status: 500}, nil, false, 0},
		{"bad gateway", Fault{Status: 502}, nil, false, 0},
		{"refused", Fault{Status: refused}, connector.ErrUnauthorized, false, 0},
	} {
		for op, call := range map[string]func(connector.Connector) error{
			"fetch": func(c connector.Connector) error {
				_, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: id})
				return err
			},
			"list": func(c connector.Connector) error { _, err := c.Lister.List(t.Context(), ""); return err },
		} {
			c := h.Open(t)
			h.API.Break(tt.fault)
			err := call(c)
			h.API.Mend()
			var e *connector.Error
			switch {
			case err == nil:
				t.Errorf("%s, %s: no error", tt.name, op)
				continue
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Errorf("%s, %s: %v, want %v", tt.name, op, err, tt.is)
			case tt.is == nil && (!errors.As(err, &e) || e.Permanent):
				t.Errorf("%s, %s: %v, want a failure that is worth another try", tt.name, op, err)
			case tt.is == nil && errors.Is(err, connector.ErrGone):
				t.Errorf("%s, %s: %v: the document would be deleted", tt.name, op, err)
			}
			if d := connector.RetryAfter(err) - tt.after; d > 0 || d < -2*time.Second {
				t.Errorf("%s, %s: wait %s, want %s", tt.name, op, connector.RetryAfter(err), tt.after)
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), Secret) {
				t.Errorf("%s, %s: the error tells the secret", tt.name, op)
			}
		}
	}
	h.API.CloseClientConnections()
}

func refusesCursors(t *testing.T, h *Harness) {
	h.Create("Page", "text")
	for _, cursor := range []string{"not ours", `{"since":"yesterday"}`, `{"part":-1}`, `{"part":99999}`, `{"other":1}`, "\x00"} {
		p, err := h.Open(t).Lister.List(t.Context(), cursor)
		if err == nil && len(p.Changes) == 0 {
			t.Errorf("cursor %q was taken for one and found nothing", cursor)
		}
		if err != nil && !errors.Is(err, connector.ErrCursor) {
			t.Errorf("cursor %q: %v, want %v", cursor, err, connector.ErrCursor)
		}
	}
}

func ends(t *testing.T, h *Harness) {
	if h.API == nil {
		return
	}
	id := h.Create("Page", "text")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := h.Open(t)
	if _, err := c.Fetcher.Fetch(ctx, connector.Ref{ID: id}); err == nil {
		t.Error("a fetch went on after its context had ended")
	}
	if _, err := c.Lister.List(ctx, ""); err == nil {
		t.Error("a list went on after its context had ended")
	}
}
