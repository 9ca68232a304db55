package lsm

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
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
	// killed are the runs that a commit makes garbage, made the files that a rollback does.
	killed []runName
	made   []string
}

// View begins to use a table in a transaction, once in each.
func (t *Table) View(ctx context.Context, tx *sqlite.Tx) (*View, error) {
	next, err := t.refresh(ctx, tx)
	if err != nil {
		return nil, err
	}
	v := &View{t: t, tx: tx, runs: slices.Clone(t.runs), last: t.last, version: t.version, next: next}
	tx.After(v.over)
	return v, nil
}

// over takes the changes into memory, or forgets them, and removes files that are needless now. One that cannot be removed, because of a backup, say,
// waits for the next transaction.
func (v *View) over(committed, sure bool) {
	t := v.t
	switch {
	case committed && v.logged > 0:
		// What a commit that failed has written into the write-ahead log, if it has, is overwritten, so that no crash brings it back.
		t.needless, t.unsure = append(t.needless, t.unsure...), nil
	case !committed && sure:
		t.needless = append(t.needless, v.made...)
	case !committed:
		t.unsure = append(t.unsure, v.made...)
	}
	if removed, err := t.db.RemoveFiles(t.needless...); err == nil && removed {
		t.needless = nil
	}
	v.keep(committed, sure)
}

// keep takes the changes into memory, or forgets them.
func (v *View) keep(committed, sure bool) {
	v.t.mu.Lock()
	defer v.t.mu.Unlock()
	defer v.t.committing.Store(nil)
	if !committed {
		// Whether a commit that failed has happened all the same, only the database knows.
		v.t.stale = v.t.stale || v.worked || !sure
		return
	}
	v.t.garbage = append(v.t.garbage, v.killed...)
	v.t.vain = slices.DeleteFunc(v.t.vain, func(r runName) bool { return slices.Contains(v.killed, r) })
	maps.DeleteFunc(v.t.jobs, func(_ int, j *job) bool { return j.done })
	if v.flushed {
		clear(v.t.mem) // what it has grown to, it will need again
		v.t.memSize, v.t.logSize = 0, 0
	}
	v.t.logSize += v.logged
	for _, e := range v.own {
		v.t.add(e)
	}
	v.t.runs, v.t.last, v.t.version = v.runs, v.last, v.version
}

// Get returns what is under keys. What is not there, or deleted, is not in the map.
func (v *View) Get(_ context.Context, keys []string) (map[string]Entry, error) {
	found := make(map[string]Entry, len(keys))
	rest := lookIn(v.own, keys, found)
	if !v.flushed {
		rest = lookIn(v.t.mem, rest, found)
	}
	if err := v.t.lookUp(v.runs, rest, found); err != nil {
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
func (v *View) Scan(_ context.Context, after, before string, limit int) ([]Entry, error) {
	young := map[string]Entry{}
	if !v.flushed {
		between(v.t.mem, after, before, young)
	}
	return scan(v.runs, between(v.own, after, before, young), after, before, limit)
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
	if v.own == nil {
		v.own = make(map[string]Entry, len(entries))
	}
	batch := v.t.batch[:0]
	for i := range entries {
		batch = appendEntry(batch, &entries[i])
		v.own[entries[i].Key] = entries[i]
	}
	if cap(batch) <= v.t.opts.Memory {
		v.t.batch = batch
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
	var key []byte
	for e := range sorted(v.t.mem) {
		key = append(key[:0], e.Key...)
		if err := w.add(&raw{key: key, value: e.Value, expires: e.Expires, deleted: e.Deleted}); err != nil {
			w.close()
			return err
		}
	}
	if _, err := w.step(math.MaxInt); err != nil {
		w.close()
		return err
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
