// Package lsm keeps rows by key as a log-structured merge-tree in an SQLite database, for tables whose rows change at random
// places: a B-tree writes a whole page for each of them once it has outgrown its cache, so that a row costs the more, the
// more there are.
//
// A row is written three times or so instead, each time next to others: into a log, a batch per row of it, as the transaction
// commits; with some ten thousand others, in the order of their keys, into a run; and into larger runs, as runs are merged. Each
// run has a Bloom filter and the first key of each of its pages in memory, so that a key that is not there costs no read, and one that
// is there costs one. Everything happens in the transactions of whoever writes, a step at a time in proportion to what it writes:
// there is no work in the background, and a rollback takes all of it back.
//
// Several processes may use a table: each transaction looks whether another process has committed to it since.
package lsm

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// Schema creates a table; it belongs among the migrations of the database. The name must be plain letters.
func Schema(name string) string {
	return strings.ReplaceAll(`
CREATE TABLE NAME_state (
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	last    INTEGER NOT NULL,
	version INTEGER NOT NULL,
	next    INTEGER NOT NULL
);
INSERT INTO NAME_state (one, last, version, next) VALUES (1, 0, 0, 1);
CREATE TABLE NAME_log (
	seq     INTEGER PRIMARY KEY,
	entries BLOB NOT NULL
);
CREATE TABLE NAME_runs (
	id      INTEGER PRIMARY KEY,
	state   INTEGER NOT NULL,
	level   INTEGER NOT NULL,
	upto    INTEGER NOT NULL,
	entries INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	fences  BLOB,
	filter  BLOB
);
CREATE TABLE NAME_pages (
	id   INTEGER PRIMARY KEY,
	data BLOB NOT NULL
);`, "NAME", name)
}

// Options tune a table.
type Options struct {
	// Memory is how many bytes of rows are kept in memory (and in the log) before they become a run; 0: 4 MiB.
	Memory int
	// Fanout is how many runs of a size are merged into one; 0: 8.
	Fanout int
}

// Table is one table. Safe for concurrent use.
type Table struct {
	db   *sqlite.DB
	opts Options
	sql  statements
	work counters

	// mu guards what follows. It changes when a transaction is over, under the turn of the database's writers.
	mu      sync.RWMutex
	mem     map[string]Entry
	memSize int
	// logSize is how many bytes are in the log.
	logSize int
	// runs are in the order of their age, the youngest first.
	runs []*run
	// last is the newest row of the log that mem or a run has; version counts the changes of the runs.
	last, version int64
	// stale says that memory may not be what the database holds.
	stale bool

	// Only transactions touch the rest: the merges that are under way here, by the level of what they merge; the runs that other
	// processes build, or died over, by their level; runs that were built in vain; and runs whose pages are to be deleted.
	jobs     map[int]*job
	building map[int][]int64
	vain     []int64
	garbage  []int64

	// committing is what a transaction of this process makes of last and version.
	committing atomic.Pointer[[2]int64]
}

// What a run is.
const (
	dead = iota
	live
	built
)

// statements are the texts for a table.
type statements struct {
	state, setState, log, addLog, dropLog, runs, index, addRun, setFilter, endRun, killRun, dropRun, addPage, pages, pagesIn, dropPages string
}

func statementsOf(name string) statements {
	of := func(s string) string { return strings.ReplaceAll(s, "NAME", name) }
	return statements{
		state:     of(`SELECT last, version, next FROM NAME_state`),
		setState:  of(`UPDATE NAME_state SET last = ?, version = ?, next = ?`),
		log:       of(`SELECT seq, entries FROM NAME_log WHERE seq > ? ORDER BY seq`),
		addLog:    of(`INSERT INTO NAME_log (seq, entries) VALUES (?, ?)`),
		dropLog:   of(`DELETE FROM NAME_log WHERE seq <= ?`),
		runs:      of(`SELECT id, state, level, upto, entries, expires FROM NAME_runs ORDER BY upto DESC`),
		index:     of(`SELECT fences, filter FROM NAME_runs WHERE id = ?`),
		addRun:    of(`INSERT INTO NAME_runs (id, state, level, upto, entries, expires) VALUES (?, 2, ?, ?, 0, 0)`),
		setFilter: of(`UPDATE NAME_runs SET filter = ? WHERE id = ?`),
		endRun:    of(`UPDATE NAME_runs SET state = 1, entries = ?, expires = ?, fences = ?, filter = ? WHERE id = ?`),
		killRun:   of(`UPDATE NAME_runs SET state = 0, fences = NULL, filter = NULL WHERE id = ?`),
		dropRun:   of(`DELETE FROM NAME_runs WHERE id = ?`),
		addPage:   of(`INSERT INTO NAME_pages (id, data)`),
		pages:     of(`SELECT id, data FROM NAME_pages WHERE id BETWEEN ? AND ? ORDER BY id`),
		pagesIn:   of(`SELECT count(visit(?, id, data)) FROM NAME_pages WHERE id IN %s`),
		dropPages: of(`DELETE FROM NAME_pages WHERE id IN (SELECT id FROM NAME_pages WHERE id BETWEEN ? AND ? LIMIT ?)`),
	}
}

// run is a sorted, immutable piece of a table.
type run struct {
	id    int64
	level int
	// upto is the newest row of the log that it holds: what is in it is older than what a run with a higher one holds.
	upto    int64
	entries int64
	// expires is when all of its entries may be dropped; 0: one of them never.
	expires int64
	fences  fences
	filter  filter
}

// pageBits is how many of a page's number say which page of its run it is.
const pageBits = 24

func (r *run) page(n int) int64 { return r.id<<pageBits | int64(n) }

// Open reads what is kept in memory about a table that Schema created.
func Open(ctx context.Context, db *sqlite.DB, name string, opts Options) (*Table, error) {
	if opts.Memory == 0 {
		opts.Memory = 4 << 20
	}
	if opts.Fanout == 0 {
		opts.Fanout = 8
	}
	t := &Table{db: db, opts: opts, sql: statementsOf(name), stale: true, jobs: map[int]*job{}, building: map[int][]int64{}}
	if err := t.catchUp(ctx); err != nil {
		return nil, fmt.Errorf("open table %s: %w", name, err)
	}
	return t, nil
}

// catchUp makes memory what the database holds.
func (t *Table) catchUp(ctx context.Context) error {
	return t.db.InRows(ctx, func(ctx context.Context, tx *sqlite.Tx) error {
		_, err := t.refresh(ctx, tx)
		return err
	})
}

// current sees to it that memory is not older than what is committed, by another process too. A commit of this process that is
// happening may be missed.
func (t *Table) current(ctx context.Context) error {
	var now [2]int64
	var next int64
	err := t.db.Committed().Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&now[0], &now[1], &next) }, t.sql.state)
	if err != nil {
		return err
	}
	t.mu.RLock()
	known := !t.stale && t.last == now[0] && t.version == now[1]
	t.mu.RUnlock()
	if own := t.committing.Load(); known || (own != nil && *own == now) {
		return nil
	}
	return t.catchUp(ctx)
}

// refresh makes memory what the database holds, as a transaction sees it at its beginning, and returns the id of the next run.
func (t *Table) refresh(ctx context.Context, tx *sqlite.Tx) (next int64, err error) {
	var last, version int64
	if err := tx.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&last, &version, &next) }, t.sql.state); err != nil {
		return 0, fmt.Errorf("read the state: %w", err)
	}
	t.mu.RLock()
	stale, from, same := t.stale, t.last, t.version == version
	t.mu.RUnlock()
	if !stale && same && from == last {
		return next, nil
	}
	runs := t.runs
	if stale || !same {
		if runs, err = t.load(ctx, tx, stale); err != nil {
			return 0, err
		}
		from = 0
	}
	var added []Entry
	logged := 0
	err = tx.Each(ctx, func(rows *sql.Rows) error {
		var seq int64
		var batch []byte
		if err := rows.Scan(&seq, &batch); err != nil {
			return err
		}
		logged += len(batch)
		for len(batch) > 0 {
			e, rest, err := readEntry(batch)
			if err != nil {
				return fmt.Errorf("row %d of the log: %w", seq, err)
			}
			added, batch = append(added, e.entry()), rest
		}
		return nil
	}, t.sql.log, from)
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if stale || !same {
		t.mem, t.memSize, t.logSize, t.runs = map[string]Entry{}, 0, 0, runs
	}
	t.add(added)
	t.logSize += logged
	t.last, t.version, t.stale = last, version, false
	return next, nil
}

// load reads the runs. Those that are in memory stay, because a run does not change, and so do merges that another process has
// not put an end to, unless what is known of their progress may be wrong.
func (t *Table) load(ctx context.Context, tx *sqlite.Tx, lost bool) ([]*run, error) {
	known := map[int64]*run{}
	for _, r := range t.runs {
		known[r.id] = r
	}
	var runs []*run
	states := map[int64]int{}
	t.garbage, t.building = nil, map[int][]int64{}
	err := tx.Each(ctx, func(rows *sql.Rows) error {
		r := &run{}
		var state int
		if err := rows.Scan(&r.id, &state, &r.level, &r.upto, &r.entries, &r.expires); err != nil {
			return err
		}
		switch states[r.id] = state; state {
		case live:
			runs = append(runs, r)
		case built:
			t.building[r.level] = append(t.building[r.level], r.id)
		default:
			t.garbage = append(t.garbage, r.id)
		}
		return nil
	}, t.sql.runs)
	if err != nil {
		return nil, fmt.Errorf("read the runs: %w", err)
	}
	for i, r := range runs {
		if k := known[r.id]; k != nil {
			runs[i] = k
		} else if err := t.loadIndex(ctx, tx, r); err != nil {
			return nil, fmt.Errorf("read the index of run %d: %w", r.id, err)
		}
	}
	t.keepJobs(states, lost)
	return runs, nil
}

// keepJobs ends the merges that cannot go on.
func (t *Table) keepJobs(states map[int64]int, lost bool) {
	for level, j := range t.jobs {
		ours := states[j.out.run.id] == built
		ended := lost || !ours || slices.ContainsFunc(j.inputs, func(r *run) bool { return states[r.id] != live })
		if ended {
			delete(t.jobs, level)
		}
		if ended && ours {
			t.vain = append(t.vain, j.out.run.id)
		}
		if ours {
			others := slices.DeleteFunc(t.building[level+1], func(id int64) bool { return id == j.out.run.id })
			t.building[level+1] = others
		}
	}
}

// loadIndex reads what a run keeps in memory.
func (t *Table) loadIndex(ctx context.Context, tx *sqlite.Tx, r *run) error {
	var first, filter []byte
	err := tx.Each(ctx, func(rows *sql.Rows) error { return rows.Scan(&first, &filter) }, t.sql.index, r.id)
	if err != nil {
		return err
	}
	if r.fences, err = decodeFences(first); err != nil {
		return err
	}
	known := false
	if r.filter, known, err = decodeFilter(filter); err != nil || known {
		return err
	}
	if r.filter, err = t.filterOf(ctx, tx, r); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, t.sql.setFilter, r.filter.encode(), r.id)
	return err
}

// filterOf makes a run's filter from its pages.
func (t *Table) filterOf(ctx context.Context, tx *sqlite.Tx, r *run) (filter, error) {
	f := newFilter(r.entries)
	c := t.cursorAfter(r, "")
	for {
		if err := c.move(ctx, tx); err != nil || c.ended {
			return f, err
		}
		f.add(hashOf(c.at.key))
		c.ready = false
	}
}

// add puts entries into memory; the caller holds mu.
func (t *Table) add(entries []Entry) {
	for _, e := range entries {
		if old, ok := t.mem[e.Key]; ok {
			t.memSize -= old.size()
		}
		t.mem[e.Key] = e
		t.memSize += e.size()
	}
}

// Len is about how many entries there are, the deleted and expired ones that are not dropped yet and replaced ones included.
func (t *Table) Len() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := int64(len(t.mem))
	for _, r := range t.runs {
		n += r.entries
	}
	return n
}
