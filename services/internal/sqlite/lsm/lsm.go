// Package lsm keeps rows by key as a log-structured merge-tree in an SQLite database, for tables whose rows change at random
// places: a B-tree writes a whole page for each of them once it has outgrown its cache, so that a row costs the more, the
// more there are.
//
// A row is written three times or so instead, each time next to others: into a log, a batch per row of it, as the transaction
// commits; with some ten thousand others, in the order of their keys, into a run; and into larger runs, as runs are merged. A run
// is a file of its own beside the database, which is written once, brought to the disk before the transaction commits that makes it a part of the table, and
// mapped into memory from then on: a key costs a line of its index, and an entry that is there is where the index says. Everything happens in the
// transactions of whoever writes, a step at a time in proportion to what it writes: there is no work in the background, and a rollback takes
// all of it back. A file that nothing in the database names is garbage of a process that died.
//
// Several processes may use a table: each transaction looks whether another process has committed to it since.
package lsm

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
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

// RunFilesSchema changes a table whose runs are in the database into one whose runs are files, or will be once it is opened: the migration after
// Schema.
func RunFilesSchema(name string) string {
	return strings.ReplaceAll(`ALTER TABLE NAME_runs ADD COLUMN token INTEGER NOT NULL DEFAULT 0;`, "NAME", name)
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
	name string
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
	// processes build, or died over, by their level; runs that were built in vain; runs that are dead for good, whose files are to be
	// removed; the files of transactions of which only the database knows whether they committed; and files that were never part of the table.
	jobs     map[int]*job
	building map[int][]runName
	vain     []runName
	garbage  []runName
	unsure   []string
	needless []string
	// batch is memory for what a transaction writes into the log.
	batch []byte

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
	state, setState, log, addLog, dropLog, runs, addRun, endRun, killRun, dropRun string
}

func statementsOf(name string) statements {
	of := func(s string) string { return strings.ReplaceAll(s, "NAME", name) }
	return statements{
		state:    of(`SELECT last, version, next FROM NAME_state`),
		setState: of(`UPDATE NAME_state SET last = ?, version = ?, next = ?`),
		log:      of(`SELECT seq, entries FROM NAME_log WHERE seq > ? ORDER BY seq`),
		addLog:   of(`INSERT INTO NAME_log (seq, entries) VALUES (?, ?)`),
		dropLog:  of(`DELETE FROM NAME_log WHERE seq <= ?`),
		runs:     of(`SELECT id, token, state, level, upto, entries, expires FROM NAME_runs ORDER BY upto DESC`),
		addRun:   of(`INSERT INTO NAME_runs (id, token, state, level, upto, entries, expires) VALUES (?, ?, 2, ?, ?, 0, 0)`),
		endRun:   of(`UPDATE NAME_runs SET state = 1, entries = ?, expires = ? WHERE id = ?`),
		killRun:  of(`UPDATE NAME_runs SET state = 0 WHERE id = ?`),
		dropRun:  of(`DELETE FROM NAME_runs WHERE id = ?`),
	}
}

// runName is what a run and its file are called by: a number, which a rollback gives back, and a token, which nothing else has.
type runName struct{ id, token int64 }

// run is a sorted, immutable piece of a table.
type run struct {
	runName
	level int
	// upto is the newest row of the log that it holds: what is in it is older than what a run with a higher one holds.
	upto    int64
	entries int64
	// expires is when all of its entries may be dropped; 0: one of them never.
	expires int64
	*file
}

// Open reads what is kept in memory about a table that Schema created.
func Open(ctx context.Context, db *sqlite.DB, name string, opts Options) (*Table, error) {
	if opts.Memory == 0 {
		opts.Memory = 4 << 20
	}
	if opts.Fanout == 0 {
		opts.Fanout = 8
	}
	t := &Table{db: db, name: name, opts: opts, sql: statementsOf(name), stale: true, jobs: map[int]*job{}, building: map[int][]runName{}}
	if err := db.MakeFiles(); err != nil {
		return nil, fmt.Errorf("create the folder for the runs of table %s: %w", name, err)
	}
	if err := t.db.InRows(ctx, t.sweep); err != nil { // first, because what a move has left may be what fills the disk
		return nil, fmt.Errorf("look for files of table %s that nothing needs: %w", name, err)
	}
	if err := t.move(ctx); err != nil {
		return nil, fmt.Errorf("move the runs of table %s into files: %w", name, err)
	}
	if err := t.catchUp(ctx); err != nil {
		return nil, fmt.Errorf("open table %s: %w", name, err)
	}
	return t, nil
}

// path is where the file of a run is.
func (t *Table) path(r runName) string {
	return filepath.Join(t.db.Files(), fileName(t.name, r.id, r.token))
}

// sweep removes the files that nothing in the database names. No transaction of another process is under way meanwhile.
func (t *Table) sweep(ctx context.Context, tx *sqlite.Tx) error {
	known := map[string]bool{}
	err := tx.EachOnce(ctx, func(rows *sql.Rows) error {
		var r runName
		err := rows.Scan(&r.id, &r.token)
		known[fileName(t.name, r.id, r.token)] = true
		return err
	}, strings.ReplaceAll(`SELECT id, token FROM NAME_runs`, "NAME", t.name))
	if err != nil {
		return err
	}
	files, err := os.ReadDir(t.db.Files())
	if err != nil {
		return err
	}
	var needless []string
	for _, f := range files {
		if name := f.Name(); strings.HasPrefix(name, t.name+"-") && !known[name] {
			needless = append(needless, filepath.Join(t.db.Files(), name))
		}
	}
	_, err = t.db.RemoveFiles(needless...) // if a backup copies them now, the next start removes them
	return err
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
	for _, e := range added {
		t.add(e)
	}
	t.logSize += logged
	t.last, t.version, t.stale = last, version, false
	return next, nil
}

// load reads the runs. Those that are in memory stay, because a run does not change, and so do merges that another process has
// not put an end to, unless what is known of their progress may be wrong.
func (t *Table) load(ctx context.Context, tx *sqlite.Tx, lost bool) ([]*run, error) {
	known := map[runName]*run{}
	for _, r := range t.runs {
		known[r.runName] = r
	}
	var runs []*run
	states, paths := map[runName]int{}, map[string]bool{}
	t.garbage, t.building = nil, map[int][]runName{}
	err := tx.Each(ctx, func(rows *sql.Rows) error {
		r := &run{}
		var state int
		if err := rows.Scan(&r.id, &r.token, &state, &r.level, &r.upto, &r.entries, &r.expires); err != nil {
			return err
		}
		paths[t.path(r.runName)] = true
		switch states[r.runName] = state; state {
		case live:
			runs = append(runs, r)
		case built:
			if !slices.Contains(t.vain, r.runName) {
				t.building[r.level] = append(t.building[r.level], r.runName)
			}
		default:
			t.garbage = append(t.garbage, r.runName)
		}
		return nil
	}, t.sql.runs)
	if err != nil {
		return nil, fmt.Errorf("read the runs: %w", err)
	}
	for i, r := range runs {
		if k := known[r.runName]; k != nil {
			runs[i] = k
		} else if r.file, err = openFile(t.path(r.runName), false); err != nil {
			return nil, fmt.Errorf("read run %d: %w", r.id, err)
		}
	}
	t.vain = slices.DeleteFunc(t.vain, func(r runName) bool { return states[r] != built })
	t.keepJobs(states, lost)
	t.unsure = slices.DeleteFunc(t.unsure, func(path string) bool { return paths[path] })
	return runs, nil
}

// keepJobs ends the merges that cannot go on.
func (t *Table) keepJobs(states map[runName]int, lost bool) {
	for level, j := range t.jobs {
		ours := states[j.out.run.runName] == built
		ended := lost || !ours || slices.ContainsFunc(j.inputs, func(r *run) bool { return states[r.runName] != live })
		if ended {
			j.out.close()
			delete(t.jobs, level)
		}
		if ended && ours {
			t.vain = append(t.vain, j.out.run.runName)
		}
		if ours {
			others := slices.DeleteFunc(t.building[level+1], func(r runName) bool { return r == j.out.run.runName })
			t.building[level+1] = others
		}
	}
}

// add puts an entry into memory; the caller holds mu.
func (t *Table) add(e Entry) {
	if old, ok := t.mem[e.Key]; ok {
		t.memSize -= old.size()
	}
	t.mem[e.Key] = e
	t.memSize += e.size()
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
