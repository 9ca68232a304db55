package lsm

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// errMoved says that a run was merged away while it was read.
var errMoved = errors.New("a page is not there any more")

// readTries is how often a read outside a transaction begins anew because runs were merged away meanwhile.
const readTries = 5

// committed runs a read of what is committed; it begins anew if what it reads was merged away.
func (t *Table) committed(ctx context.Context, read func() error) error {
	err := t.current(ctx)
	for range readTries {
		if err != nil {
			return err
		}
		if err = read(); !errors.Is(err, errMoved) {
			return err
		}
		if caught := t.catchUp(ctx); caught != nil {
			return caught
		}
		err = nil
	}
	return errMoved
}

// Get returns what is committed under keys. What is not there, or deleted, is not in the map.
func (t *Table) Get(ctx context.Context, keys []string) (found map[string]Entry, err error) {
	err = t.committed(ctx, func() error {
		found = make(map[string]Entry, len(keys))
		t.mu.RLock()
		rest, runs := lookIn(t.mem, keys, found, nil), slices.Clone(t.runs)
		t.mu.RUnlock()
		return t.lookUp(ctx, t.db.Committed(), runs, rest, found)
	})
	for k, e := range found {
		if e.Deleted {
			delete(found, k)
		}
	}
	return found, err
}

// lookIn takes what a map has of keys and returns the others.
func lookIn(m map[string]Entry, keys []string, found map[string]Entry, rest []string) []string {
	for _, k := range keys {
		if e, ok := m[k]; ok {
			found[k] = e
		} else {
			rest = append(rest, k)
		}
	}
	return rest
}

// search is a key that is looked for.
type search struct {
	key string
	// hash is what filters know of it.
	hash uint64
	// page is where it may be, next the run to look into if it is not there.
	page int64
	next int
}

// lookUp reads keys from runs, the youngest first: of each key the page that should have it, all of them in one go, until
// none is left to look into.
func (t *Table) lookUp(ctx context.Context, q sqlite.Queryer, runs []*run, keys []string, found map[string]Entry) error {
	if len(runs) == 0 {
		return nil
	}
	open, placed := make([]search, len(keys)), make([]search, 0, len(keys))
	for i, k := range keys {
		open[i] = search{key: k, hash: hashOf(k)}
	}
	hashes, held := make([]uint64, len(keys)), make([]bool, len(keys))
	asked := 0
	for len(open) > 0 {
		placed = placed[:0]
		for i := range open {
			hashes[i] = open[i].hash
		}
		for i, r := range runs {
			asked += len(open)
			r.filter.among(hashes[:len(open)], held)
			left := 0
			for j := range open {
				n := -1
				if held[j] && open[j].next <= i {
					n = r.fences.page(open[j].key)
				}
				if n < 0 {
					if left < j {
						open[left], hashes[left] = open[j], hashes[j]
					}
					left++
					continue
				}
				open[j].page, open[j].next = r.page(n), i+1
				placed = append(placed, open[j])
			}
			open = open[:left]
		}
		var err error
		if open, err = t.lookIntoPages(ctx, q, placed, found, open[:0]); err != nil {
			return err
		}
		t.work.vain.Add(int64(len(open)))
	}
	t.work.asked.Add(int64(len(keys)))
	t.work.filters.Add(int64(asked))
	return nil
}

// lookIntoPages reads pages and appends to open what was not found in them.
func (t *Table) lookIntoPages(ctx context.Context, q sqlite.Queryer, placed []search, found map[string]Entry, open []search) ([]search, error) {
	slices.SortFunc(placed, func(a, b search) int { return cmp.Compare(a.page, b.page) })
	ids := make([]any, 0, len(placed))
	for i, s := range placed {
		if i == 0 || s.page != placed[i-1].page {
			ids = append(ids, s.page)
		}
	}
	read := 0
	err := q.VisitIn(ctx, t.sql.pagesIn, ids, func(id int64, data []byte) error {
		read++
		from, _ := slices.BinarySearchFunc(placed, id, func(s search, id int64) int { return cmp.Compare(s.page, id) })
		for _, s := range placed[from:] {
			if s.page != id {
				break
			}
			e, ok, err := inPage(data, s.key)
			if err != nil {
				return fmt.Errorf("page %d: %w", id, err)
			}
			if ok {
				found[s.key] = e
			} else {
				open = append(open, s)
			}
		}
		return nil
	})
	t.work.pages.Add(int64(read))
	if err == nil && read < len(ids) {
		err = errMoved
	}
	return open, err
}

// inPage finds a key in a page.
func inPage(page []byte, key string) (Entry, bool, error) {
	for len(page) > 0 {
		e, rest, err := readEntry(page)
		if err != nil {
			return Entry{}, false, err
		}
		if string(e.key) >= key {
			return e.entry(), string(e.key) == key, nil
		}
		page = rest
	}
	return Entry{}, false, nil
}

// Scan returns at most limit of the committed entries whose keys lie above after and below before, in the order of their bytes.
// before "": to the end.
func (t *Table) Scan(ctx context.Context, after, before string, limit int) (out []Entry, err error) {
	err = t.committed(ctx, func() error {
		t.mu.RLock()
		young, runs := between(t.mem, after, before, nil), slices.Clone(t.runs)
		t.mu.RUnlock()
		out, err = t.scan(ctx, t.db.Committed(), runs, young, after, before, limit)
		return err
	})
	return out, err
}

// between takes from a map what lies in a range.
func between(m map[string]Entry, after, before string, into map[string]Entry) map[string]Entry {
	if into == nil {
		into = map[string]Entry{}
	}
	for k, e := range m {
		if k > after && (before == "" || k < before) {
			into[k] = e
		}
	}
	return into
}

// scan merges young entries with runs.
func (t *Table) scan(ctx context.Context, q sqlite.Queryer, runs []*run, young map[string]Entry, after, before string, limit int) ([]Entry, error) {
	sorted := make([]Entry, 0, len(young))
	for _, e := range young {
		sorted = append(sorted, e)
	}
	slices.SortFunc(sorted, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	m := merge{cursors: make([]cursor, len(runs))}
	for i, r := range runs {
		m.cursors[i] = t.cursorAfter(r, after)
	}
	var out []Entry
	for len(out) < limit {
		e, ok, err := m.next(ctx, q)
		if err != nil {
			return nil, err
		}
		past := !ok || (before != "" && string(e.key) >= before)
		for len(sorted) > 0 && len(out) < limit && (past || sorted[0].Key <= string(e.key)) {
			if ok && sorted[0].Key == string(e.key) {
				ok = false // the younger one counts
			}
			if !sorted[0].Deleted {
				out = append(out, sorted[0])
			}
			sorted = sorted[1:]
		}
		if past {
			break
		}
		if ok && !e.deleted && len(out) < limit {
			out = append(out, e.entry())
		}
	}
	return out, nil
}

// readAhead is how many pages a cursor reads at once.
const readAhead = 32

// cursor walks along a run.
type cursor struct {
	t    *Table
	run  *run
	page int      // the next page to read
	read [][]byte // pages that were read
	rest []byte   // of the page that it is in
	at   raw
	// state: whether at is the next entry, or the cursor must move first, or is at its end.
	ready, ended bool
	after        string
	skip         bool // what is not above after
}

func (t *Table) cursorAfter(r *run, after string) cursor {
	return cursor{t: t, run: r, page: max(0, r.fences.page(after)), after: after, skip: after != ""}
}

// move makes at the next entry.
func (c *cursor) move(ctx context.Context, q sqlite.Queryer) error {
	for !c.ready && !c.ended {
		if len(c.rest) == 0 {
			if err := c.fetch(ctx, q); err != nil || c.ended {
				return err
			}
		}
		var err error
		if c.at, c.rest, err = readEntry(c.rest); err != nil {
			return fmt.Errorf("run %d: %w", c.run.id, err)
		}
		c.ready = !c.skip || string(c.at.key) > c.after
	}
	return nil
}

// fetch makes rest the next page.
func (c *cursor) fetch(ctx context.Context, q sqlite.Queryer) error {
	if len(c.read) == 0 {
		to := min(c.page+readAhead, c.run.fences.count)
		if c.page == to {
			c.ended = true
			return nil
		}
		err := q.Each(ctx, func(rows *sql.Rows) error {
			var id int64
			var data []byte
			err := rows.Scan(&id, &data)
			c.read = append(c.read, data)
			return err
		}, c.t.sql.pages, c.run.page(c.page), c.run.page(to-1))
		if err != nil {
			return err
		}
		if len(c.read) != to-c.page {
			return errMoved
		}
		c.page = to
	}
	c.rest, c.read = c.read[0], c.read[1:]
	return nil
}

// merge walks along several runs in the order of their keys. The cursors are in the order of age, the youngest first: of
// entries with one key only the first one's counts.
type merge struct{ cursors []cursor }

// next returns the next entry; its parts stay as they are until the next call.
func (m *merge) next(ctx context.Context, q sqlite.Queryer) (raw, bool, error) {
	first := -1
	for i := range m.cursors {
		c := &m.cursors[i]
		if err := c.move(ctx, q); err != nil {
			return raw{}, false, err
		}
		if c.ended {
			continue
		}
		if first >= 0 {
			switch bytes.Compare(c.at.key, m.cursors[first].at.key) {
			case 0:
				c.ready = false // an older one of the same key
				if err := c.move(ctx, q); err != nil {
					return raw{}, false, err
				}
				continue
			case 1:
				continue
			}
		}
		first = i
	}
	if first < 0 {
		return raw{}, false, nil
	}
	m.cursors[first].ready = false
	return m.cursors[first].at, true, nil
}
