//go:build scenarios

package scenarios

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// page is a page of the wiki.
type page struct {
	ID        string    `json:"id"`
	Version   int64     `json:"version"`
	Title     string    `json:"title"`
	Body      string    `json:"body"`
	Action    string    `json:"action"`
	UpdatedAt time.Time `json:"updated_at"`
	number    int       // of its last change
}

// wiki is the source: pages, a list of changes, and what is wrong with it at the moment.
type wiki struct {
	url string

	mu      sync.Mutex
	pages   map[string]*page
	changes int
	// status answers every request if it is not 0; broken does so for single pages.
	status int
	broken map[string]int
	// silentDeletions keeps deletions out of the list of changes.
	silentDeletions bool
	fetches         map[string]int
}

func newWiki(t testing.TB) *wiki {
	w := &wiki{pages: map[string]*page{}, broken: map[string]int{}, fetches: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{id}", w.serve)
	mux.HandleFunc("GET /changes", w.list)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

// edit changes a page, or creates it, and returns it.
func (w *wiki) edit(id string) page {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pages[id]
	if p == nil {
		p = &page{ID: id, Title: "Title of " + id}
		w.pages[id] = p
	}
	p.Version++
	p.Action, p.Body = "upsert", fmt.Sprintf("The text of %s in version %d.", id, p.Version)
	w.touch(p)
	return *p
}

// remove deletes a page.
func (w *wiki) remove(id string) page {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pages[id]
	p.Version++
	p.Action = "delete"
	w.touch(p)
	return *p
}

func (w *wiki) touch(p *page) {
	w.changes++
	p.number, p.UpdatedAt = w.changes, time.Now().UTC()
}

// fail makes every request fail with a status; 0 ends it.
func (w *wiki) fail(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

// breakPage makes the requests for one page fail; 0 ends it.
func (w *wiki) breakPage(id string, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken[id] = status
}

// asked counts the pages that were asked for.
func (w *wiki) asked() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, times := range w.fetches {
		n += times
	}
	return n
}

func (w *wiki) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := r.PathValue("id")
	w.fetches[id]++
	p := w.pages[id]
	switch status := cmp.Or(w.status, w.broken[id]); {
	case status != 0:
		answer(rw, status, map[string]string{"error": "not now"})
	case p == nil || p.Action == "delete":
		answer(rw, http.StatusNotFound, map[string]string{"error": "not found"})
	default:
		answer(rw, http.StatusOK, p)
	}
}

// list lists each page once, by its last change, after the one that the cursor names.
func (w *wiki) list(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != 0 {
		answer(rw, w.status, map[string]string{"error": "not now"})
		return
	}
	after, _ := strconv.Atoi(r.FormValue("cursor"))
	var changed []*page
	for _, p := range w.pages {
		if p.number > after && (p.Action != "delete" || !w.silentDeletions) {
			changed = append(changed, p)
		}
	}
	slices.SortFunc(changed, func(a, b *page) int { return a.number - b.number })
	more := len(changed) > 100
	changed = changed[:min(len(changed), 100)]
	if n := len(changed); n > 0 {
		after = changed[n-1].number
	}
	answer(rw, http.StatusOK, map[string]any{"changes": append([]*page{}, changed...), "next_cursor": strconv.Itoa(after), "has_more": more})
}

func answer(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}

// model is an embedding endpoint that can be slow or away.
type model struct {
	url string

	mu     sync.Mutex
	status int
	delay  time.Duration
	calls  int
}

func newModel(t testing.TB) *model {
	m := &model{}
	srv := httptest.NewServer(http.HandlerFunc(m.embed))
	t.Cleanup(srv.Close)
	m.url = srv.URL
	return m
}

// set says what is wrong with it.
func (m *model) set(status int, delay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status, m.delay = status, delay
}

func (m *model) embed(rw http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.calls++
	status, delay := m.status, m.delay
	m.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
	}
	if status != 0 {
		answer(rw, status, map[string]string{"error": "not now"})
		return
	}
	var req struct{ Input []string }
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		answer(rw, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	type vector struct {
		Index     int       `json:"index"`
		Embedding []float32 `json:"embedding"`
	}
	data := make([]vector, len(req.Input))
	for i, text := range req.Input {
		data[i] = vector{i, []float32{1, float32(len(text)), 3, 4}}
	}
	answer(rw, http.StatusOK, map[string]any{"data": data})
}
