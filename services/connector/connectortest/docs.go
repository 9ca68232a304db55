package connectortest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
)

// Doc is what a simulated source holds.
type Doc struct {
	ID, Title, Text string
	// N counts the documents from 0.
	N                int
	Version          int
	Created, Updated time.Time
	Deleted          bool
}

// Docs are the documents of a simulated source. Safe for concurrent use.
type Docs struct {
	// API has the clock.
	API *API
	// ID makes the id of the n-th document.
	ID func(n int) string

	mu   sync.Mutex
	list []*Doc
}

// All returns what is there, the oldest change first.
func (d *Docs) All() []Doc {
	return slices.DeleteFunc(d.Ever(), func(x Doc) bool { return x.Deleted })
}

// Ever returns all that was ever made, deleted ones too, the oldest change first.
func (d *Docs) Ever() []Doc {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Doc
	for _, x := range d.list {
		out = append(out, *x)
	}
	slices.SortStableFunc(out, func(a, b Doc) int { return a.Updated.Compare(b.Updated) })
	return out
}

// Oldest returns what is there, in the order in which it was made: an edit moves nothing.
func (d *Docs) Oldest() []Doc {
	out := d.All()
	slices.SortFunc(out, func(a, b Doc) int { return a.N - b.N })
	return out
}

// Newest returns what is there, the newest change first.
func (d *Docs) Newest() []Doc {
	out := d.All()
	slices.Reverse(out)
	return out
}

// Find returns the document with an id, if it is there.
func (d *Docs) Find(id string) (Doc, bool) {
	for _, x := range d.All() {
		if x.ID == id {
			return x, true
		}
	}
	return Doc{}, false
}

func (d *Docs) change(id string, f func(*Doc)) {
	at := d.API.Tick()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.list {
		if x.ID == id {
			x.Version, x.Updated = x.Version+1, at
			f(x)
		}
	}
}

// Create makes a document.
func (d *Docs) Create(title, text string) string {
	at := d.API.Tick()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.list)
	id := fmt.Sprint(n + 1)
	if d.ID != nil {
		id = d.ID(n)
	}
	d.list = append(d.list, &Doc{ID: id, Title: title, Text: text, N: n, Version: 1, Created: at, Updated: at})
	return id
}

// Update changes a document's text.
func (d *Docs) Update(id, text string) { d.change(id, func(x *Doc) { x.Text = text }) }

// Delete removes a document.
func (d *Docs) Delete(id string) { d.change(id, func(x *Doc) { x.Deleted = true }) }

// Harness is that of a source which holds these documents.
func (d *Docs) Harness(missing string, open func() (connector.Connector, error)) *Harness {
	return &Harness{
		API: d.API, Create: d.Create, Update: d.Update, Delete: d.Delete, Missing: missing,
		Open: func(t testing.TB) connector.Connector {
			c, err := open()
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
	}
}

// Cut returns size entries from an offset on, and the next offset; -1: there is none.
func Cut[T any](all []T, from, size int) (page []T, next int) {
	from = min(max(from, 0), len(all))
	to := min(from+size, len(all))
	next = to
	if to == len(all) {
		next = -1
	}
	return append([]T{}, all[from:to]...), next
}
