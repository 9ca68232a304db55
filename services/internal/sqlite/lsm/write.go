package lsm

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

const (
	// pageBytes is how much of a page's entries lets two pages fit into one page of the database, together with its own bookkeeping
	// (https://www.sqlite.org/fileformat2.html#b_tree_pages). Whoever looks for a row copies all of a page and walks through half of it, so
	// smaller ones are read faster; but the key at the beginning of each is in memory. Older versions filled a page of the database with one.
	pageBytes = 2020
)

// View is a table within a transaction: it sees its own writes. Not for several goroutines.
type View struct {
	t   *Table
	tx  *sqlite.Tx
	own map[string]Entry
	// what the table will be after the commit
	runs                []*run
	last, version, next int64
	flushed             bool
	// logged is how many bytes this transaction wrote into the log.
	logged int
	// worked says that merges went on, whose state in memory a rollback makes wrong.
	worked bool
}

// View begins to use a table in a transaction, once in each.
func (t *Table) View(ctx context.Context, tx *sqlite.Tx) (*View, error) {
	next, err := t.refresh(ctx, tx)
	if err != nil {
		return nil, err
	}
	v := &View{t: t, tx: tx, own: map[string]Entry{}, runs: slices.Clone(t.runs), last: t.last, version: t.version, next: next}
	tx.After(v.over)
	return v, nil
}

// over takes the changes into memory, or forgets them.
func (v *View) over(committed bool) {
	v.t.mu.Lock()
	defer v.t.mu.Unlock()
	defer v.t.committing.Store(nil)
	if !committed {
		// Whether a commit that failed has happened all the same, only the database knows.
		v.t.stale = v.t.stale || v.worked || len(v.own) > 0
		return
	}
	if v.flushed {
		v.t.mem, v.t.memSize, v.t.logSize = map[string]Entry{}, 0, 0
	}
	v.t.logSize += v.logged
	v.t.add(slices.Collect(maps.Values(v.own)))
	v.t.runs, v.t.last, v.t.version = v.runs, v.last, v.version
}

// Get returns what is under keys. What is not there, or deleted, is not in the map.
func (v *View) Get(ctx context.Context, keys []string) (map[string]Entry, error) {
	found := make(map[string]Entry, len(keys))
	rest := lookIn(v.own, keys, found, nil)
	if !v.flushed {
		rest = lookIn(v.t.mem, rest, found, nil)
	}
	if err := v.t.lookUp(ctx, v.tx, v.runs, rest, found); err != nil {
		return nil, err
	}
	for k, e := range found {
		if e.Deleted {
			delete(found, k)
		}
	}
	return found, nil
}

// Scan returns at most limit entries whose keys lie above after and below before, in the order of their bytes. before "": to
// the end.
func (v *View) Scan(ctx context.Context, after, before string, limit int) ([]Entry, error) {
	young := map[string]Entry{}
	if !v.flushed {
		between(v.t.mem, after, before, young)
	}
	return v.t.scan(ctx, v.tx, v.runs, between(v.own, after, before, young), after, before, limit)
}

// Put writes entries, each key once; each replaces what was under its key. now, in microseconds, decides what is expired.
func (v *View) Put(ctx context.Context, entries []Entry, now int64) error {
	if len(entries) == 0 {
		return nil
	}
	// Rows that are replaced over and over fill the log, not the memory.
	if max(v.t.memSize, v.t.logSize) >= v.t.opts.Memory && !v.flushed {
		if err := v.flush(ctx); err != nil {
			return fmt.Errorf("write a run: %w", err)
		}
	}
	size := 0
	for i := range entries {
		size += entries[i].size()
	}
	batch := make([]byte, 0, size)
	for i := range entries {
		batch = appendEntry(batch, &entries[i])
		v.own[entries[i].Key] = entries[i]
	}
	v.last++
	if _, err := v.tx.Exec(ctx, v.t.sql.addLog, v.last, batch); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	v.logged += len(batch)
	v.t.work.logged.Add(int64(len(batch)))
	if err := v.work(ctx, len(entries), now); err != nil {
		return err
	}
	if _, err := v.tx.Exec(ctx, v.t.sql.setState, v.last, v.version, v.next); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	v.t.committing.Store(&[2]int64{v.last, v.version})
	return nil
}

// flush makes a run of what is in memory. What this transaction wrote stays in the log.
func (v *View) flush(ctx context.Context) error {
	from := v.last
	if len(v.own) > 0 {
		return nil // rows of the log before it, which would be dropped, are not in memory
	}
	w, err := v.begin(ctx, 0, from, int64(len(v.t.mem)))
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(v.t.mem)) {
		e := v.t.mem[k]
		if err := w.add(ctx, v.tx, &raw{key: []byte(e.Key), value: e.Value, expires: e.Expires, deleted: e.Deleted}); err != nil {
			return err
		}
	}
	if err := w.end(ctx, v.tx); err != nil {
		return err
	}
	if _, err := v.tx.Exec(ctx, v.t.sql.dropLog, from); err != nil {
		return err
	}
	v.t.work.flushed.Add(w.run.entries)
	v.runs, v.flushed = slices.Insert(v.runs, 0, w.run), true
	v.version++
	return nil
}

// begin starts a new run.
func (v *View) begin(ctx context.Context, level int, upto, entries int64) (*writer, error) {
	r := &run{id: v.next, level: level, upto: upto, filter: newFilter(entries)}
	v.next++
	if _, err := v.tx.Exec(ctx, v.t.sql.addRun, r.id, r.level, r.upto); err != nil {
		return nil, err
	}
	return &writer{t: v.t, run: r}, nil
}

// writer writes a run.
type writer struct {
	t      *Table
	run    *run
	first  []byte // key of the page that is being filled
	page   []byte
	full   []any // pages to insert: number, data
	always bool  // one of the entries never expires
}

func (w *writer) add(ctx context.Context, tx *sqlite.Tx, e *raw) error {
	from := len(w.page)
	if from == 0 {
		w.first = append(w.first[:0], e.key...)
	}
	w.page = appendParts(w.page, e.key, e.value, e.expires, e.deleted)
	if len(w.page) > pageBytes && from > 0 {
		rest := slices.Clone(w.page[from:])
		w.page = w.page[:from]
		if err := w.turn(ctx, tx); err != nil {
			return err
		}
		w.page, w.first = append(w.page, rest...), append(w.first[:0], e.key...)
	}
	w.run.filter.add(hashOf(e.key))
	w.run.entries++
	w.run.expires = max(w.run.expires, e.expires)
	w.always = w.always || (e.expires == 0 && !e.deleted)
	return nil
}

// turn begins the next page.
func (w *writer) turn(ctx context.Context, tx *sqlite.Tx) error {
	w.full = append(w.full, w.run.page(w.run.fences.count), slices.Clone(w.page))
	w.run.fences.add(w.first)
	w.page = w.page[:0]
	if len(w.full) < 2*256 {
		return nil
	}
	return w.save(ctx, tx)
}

// save inserts the pages that are full.
func (w *writer) save(ctx context.Context, tx *sqlite.Tx) error {
	if err := tx.InsertRows(ctx, w.t.sql.addPage, 2, w.full, ""); err != nil {
		return fmt.Errorf("write pages: %w", err)
	}
	w.t.work.written.Add(int64(len(w.full) / 2))
	clear(w.full)
	w.full = w.full[:0]
	return nil
}

// end makes the run a part of its table.
func (w *writer) end(ctx context.Context, tx *sqlite.Tx) error {
	if len(w.page) > 0 {
		if err := w.turn(ctx, tx); err != nil {
			return err
		}
	}
	if err := w.save(ctx, tx); err != nil {
		return err
	}
	if w.always {
		w.run.expires = 0
	}
	_, err := tx.Exec(ctx, w.t.sql.endRun, w.run.entries, w.run.expires, w.run.fences.encode(), w.run.filter.encode(), w.run.id)
	return err
}
