// Package wikisim is a simulated wiki: a small HTTP server with a content API, a list of changes and signed webhooks that it
// delivers as badly as real networks do. The demo and the end-to-end tests use it as a source. The same seed makes the same
// pages, edits and deliveries.
package wikisim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Page is a page as the wiki has it.
type Page struct {
	ID        string    `json:"id"`
	Version   int64     `json:"version"`
	Title     string    `json:"title"`
	URL       string    `json:"url"`
	Body      string    `json:"body"`
	Format    string    `json:"format"`
	UpdatedAt time.Time `json:"updated_at"`
	deleted   bool
}

// Change is an entry of the list of changes.
type Change struct {
	ID        string    `json:"id"`
	Version   int64     `json:"version"`
	Action    string    `json:"action"`
	UpdatedAt time.Time `json:"updated_at"`
	// kind is what the webhook says: created, updated or deleted.
	kind  string
	title string
}

// Wiki is the source. Safe for concurrent use.
type Wiki struct {
	mu      sync.Mutex
	rng     *rand.Rand
	now     func() time.Time
	pages   map[string]*Page
	order   []string
	changes []Change
	// kept are the pages that Add made: Step leaves them alone, so that questions about them have answers.
	kept int
}

// New returns a wiki with the given seed and without pages.
func New(seed uint64, now func() time.Time) *Wiki {
	return &Wiki{rng: rand.New(rand.NewPCG(seed, 1)), now: now, pages: map[string]*Page{}} //nolint:gosec // a simulation has to be repeatable, not unguessable
}

// Add creates a page with a given text, before any Step.
func (w *Wiki) Add(title, body string) Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept++
	return w.create(title, body)
}

func (w *Wiki) create(title, body string) Change {
	id := fmt.Sprintf("page-%d", len(w.order)+1)
	p := &Page{ID: id, Title: title, Body: body, Format: "markdown", URL: "https://wiki.example/" + id}
	w.pages[id], w.order = p, append(w.order, id)
	return w.changed(p, "created")
}

// changed notes that a page has changed.
func (w *Wiki) changed(p *Page, kind string) Change {
	p.Version++
	p.UpdatedAt = w.now().UTC()
	action := "upsert"
	if p.deleted {
		action = "delete"
	}
	c := Change{ID: p.ID, Version: p.Version, Action: action, UpdatedAt: p.UpdatedAt, kind: kind, title: p.Title}
	w.changes = append(w.changes, c)
	return c
}

// Step does one random thing: mostly edits, some new pages, renames, deletions and returns.
func (w *Wiki) Step() Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.order) == w.kept || w.rng.IntN(100) < 25 {
		title, body := w.page()
		return w.create(title, body)
	}
	p := w.pages[w.order[w.kept+w.rng.IntN(len(w.order)-w.kept)]]
	switch dice := w.rng.IntN(100); {
	case p.deleted:
		p.deleted = false
		p.Body += "\n\n" + w.paragraph()
		return w.changed(p, "created")
	case dice < 15:
		p.deleted = true
		return w.changed(p, "deleted")
	case dice < 30:
		p.Title = w.title()
	default:
		parts := strings.Split(p.Body, "\n\n")
		parts[w.rng.IntN(len(parts))] = w.paragraph()
		p.Body = strings.Join(parts, "\n\n")
	}
	return w.changed(p, "updated")
}

// Snapshot returns all pages that were ever made, by id; deleted ones with Deleted.
func (w *Wiki) Snapshot() map[string]Page {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]Page{}
	for id, p := range w.pages {
		out[id] = *p
	}
	return out
}

// Deleted says whether the page is gone.
func (p Page) Deleted() bool { return p.deleted }

// Handler serves the wiki's API: GET /pages/{id} and GET /changes?cursor=&limit=.
func (w *Wiki) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{id}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		p, ok := w.pages[r.PathValue("id")]
		var page Page
		if ok {
			page = *p
		}
		w.mu.Unlock()
		if !ok || page.deleted {
			answer(rw, http.StatusNotFound, map[string]string{"error": "not found"})
			return
		}
		answer(rw, http.StatusOK, page)
	})
	mux.HandleFunc("GET /changes", w.list)
	return mux
}

// list serves the changes after a cursor, the number of the last one that was seen.
func (w *Wiki) list(rw http.ResponseWriter, r *http.Request) {
	from, limit := 0, 100
	var err error
	if c := r.FormValue("cursor"); c != "" {
		if from, err = strconv.Atoi(c); err != nil || from < 0 {
			answer(rw, http.StatusBadRequest, map[string]string{"error": "bad cursor"})
			return
		}
	}
	if l := r.FormValue("limit"); l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 1 {
			answer(rw, http.StatusBadRequest, map[string]string{"error": "bad limit"})
			return
		}
	}
	w.mu.Lock()
	all := w.changes
	w.mu.Unlock()
	from = min(from, len(all))
	to := min(len(all), from+limit)
	answer(rw, http.StatusOK, map[string]any{"changes": append([]Change{}, all[from:to]...), "next_cursor": strconv.Itoa(to), "has_more": to < len(all)})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
