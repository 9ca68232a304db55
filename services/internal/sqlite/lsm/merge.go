package lsm

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

const (
	// mergeShare is how many entries each merge moves for one that is written. One of Fanout runs is done when as much was written as makes another run or
	// so: the fewer runs a level has meanwhile, the fewer have to be asked for a key, and a merge is lost with its process.
	mergeShare = 8
	// mergeLeast is how many it moves at least.
	mergeLeast = 64
)

// job merges the runs of a level into one of the next.
type job struct {
	inputs []*run
	merge  *merge
	out    *writer
	// bottom: nothing is older than what is merged, so that what is deleted or expired needs no trace.
	bottom bool
	// done: it has come to its end in a transaction, and is over if that commits.
	done bool
}

// work goes on with merges and removals, in proportion to what was written.
func (v *View) work(ctx context.Context, written int, now int64) error {
	if err := v.start(ctx); err != nil {
		return fmt.Errorf("begin to merge runs: %w", err)
	}
	for level, j := range v.t.jobs {
		if j.done {
			continue
		}
		v.worked = true
		var err error
		if j.done, err = v.step(ctx, j, v.pressure(level)*(mergeShare*written+mergeLeast), now); err != nil {
			return fmt.Errorf("merge runs of level %d: %w", level, err)
		}
	}
	if err := v.expire(ctx, now); err != nil {
		return fmt.Errorf("drop an expired run: %w", err)
	}
	if err := v.clean(ctx); err != nil {
		return fmt.Errorf("remove a run that was merged: %w", err)
	}
	return nil
}

// pressure is how many times as fast the runs of a level are merged as they should have to be. A merge begins anew when its process ends: where
// none lives for long, runs pile up until one is fast enough.
func (v *View) pressure(level int) int {
	n := 0
	for _, r := range v.runs {
		if r.level == level {
			n++
		}
	}
	return max(1, n/v.t.opts.Fanout)
}

// start begins to merge each level that has enough runs. Those of a level are next to each other.
func (v *View) start(ctx context.Context) error {
	for rest := v.runs; len(rest) > 0; {
		level := rest[0].level
		runs := rest
		if end := slices.IndexFunc(rest, func(r *run) bool { return r.level != level }); end >= 0 {
			runs = rest[:end]
		}
		rest = rest[len(runs):]
		if len(runs) < v.t.opts.Fanout || v.t.jobs[level] != nil {
			continue
		}
		others := v.t.building[level+1]
		living := slices.ContainsFunc(others, func(r runName) bool { return sqlite.Held(v.t.path(r)) })
		if living && len(runs) < 2*v.t.opts.Fanout {
			continue // another process merges them; if it does not get on, it is stuck
		}
		v.worked = true
		for _, r := range others {
			if err := v.kill(ctx, r); err != nil {
				return err
			}
			v.version++ // if it lives, it is told
		}
		delete(v.t.building, level+1)
		inputs := slices.Clone(runs[len(runs)-v.t.opts.Fanout:]) // the oldest
		total, size := int64(0), int64(0)
		cursors := make([]cursor, len(inputs))
		for i, r := range inputs {
			total, size = total+r.entries, size+int64(r.end)
			cursors[i] = cursor{run: r, next: headerBytes}
		}
		if size > mostBytes {
			continue // as large as a run can be
		}
		m, err := newMerge(cursors)
		if err != nil {
			return err
		}
		out, err := v.begin(ctx, level+1, inputs[0].upto, total)
		if err != nil {
			return err
		}
		v.t.jobs[level] = &job{inputs: inputs, merge: m, out: out, bottom: inputs[len(inputs)-1] == v.runs[len(v.runs)-1]}
	}
	return nil
}

// step moves a number of entries.
func (v *View) step(ctx context.Context, j *job, budget int, now int64) (done bool, err error) {
	for ; budget > 0; budget-- {
		e, ok, err := j.merge.take()
		if err != nil {
			return false, err
		}
		if !ok {
			if all, err := j.out.step(budget); err != nil || !all {
				return false, err
			}
			return true, v.finish(ctx, j)
		}
		if expired := e.expires != 0 && e.expires <= now; expired || e.deleted {
			if j.bottom {
				continue
			}
			e.value, e.deleted = nil, true
		}
		if err := j.out.add(&e); err != nil {
			return false, err
		}
		v.t.work.merged.Add(1)
	}
	return false, nil
}

// finish puts the merged run in the place of what it was merged from.
func (v *View) finish(ctx context.Context, j *job) error {
	if err := j.out.end(ctx, v.tx); err != nil {
		return err
	}
	at := slices.Index(v.runs, j.inputs[0])
	v.runs = slices.Replace(v.runs, at, at+len(j.inputs), j.out.run)
	v.version++
	for _, r := range j.inputs {
		if err := v.kill(ctx, r.runName); err != nil {
			return err
		}
	}
	if j.out.run.entries > 0 {
		return nil
	}
	v.runs = slices.Delete(v.runs, at, at+1)
	return v.kill(ctx, j.out.run.runName)
}

// kill makes a run garbage once the transaction has committed.
func (v *View) kill(ctx context.Context, r runName) error {
	if _, err := v.tx.Exec(ctx, v.t.sql.killRun, r.id); err != nil {
		return err
	}
	v.worked = true
	v.killed = append(v.killed, r)
	return nil
}

// expire drops the oldest run once all of it has expired, unless it is being merged.
func (v *View) expire(ctx context.Context, now int64) error {
	if len(v.runs) == 0 {
		return nil
	}
	oldest := v.runs[len(v.runs)-1]
	if oldest.expires == 0 || oldest.expires > now {
		return nil
	}
	for _, j := range v.t.jobs {
		if slices.Contains(j.inputs, oldest) {
			return nil
		}
	}
	v.runs = v.runs[:len(v.runs)-1]
	v.version++
	return v.kill(ctx, oldest.runName)
}

// clean removes the file of a run that is garbage, and what the database knows of it.
func (v *View) clean(ctx context.Context) error {
	for _, r := range v.t.vain {
		if slices.Contains(v.killed, r) {
			continue // by an earlier Put
		}
		if err := v.kill(ctx, r); err != nil {
			return err
		}
	}
	if len(v.t.garbage) == 0 {
		return nil
	}
	r := v.t.garbage[0]
	removed, err := v.t.db.RemoveFiles(v.t.path(r))
	if err != nil || !removed {
		return err
	}
	v.worked, v.t.garbage = true, v.t.garbage[1:]
	_, err = v.tx.Exec(ctx, v.t.sql.dropRun, r.id)
	return err
}

// cursor walks along a run, through what lies above a key.
type cursor struct {
	run   *run
	next  int // where the entry after at begins
	at    raw
	after string
}

// move makes at the next entry; false: there is none.
func (c *cursor) move() (bool, error) {
	for c.next < c.run.end {
		var err error
		if c.at, c.next, err = c.run.entry(c.next); err != nil {
			return false, fmt.Errorf("read run %d: %w", c.run.id, err)
		}
		if c.after == "" {
			return true, nil
		}
		if string(c.at.key) > c.after {
			c.after = ""
			return true, nil
		}
	}
	return false, nil
}

// merge walks along several runs in the order of their keys. The cursors are in the order of age, the youngest first: of
// entries with one key only the first one's counts.
type merge struct {
	cursors []cursor
	// heap are the cursors that are not at their end: none is before the one at half its place.
	heap []int
}

func newMerge(cursors []cursor) (*merge, error) {
	m := &merge{cursors: cursors}
	for i := range cursors {
		ok, err := cursors[i].move()
		if err != nil {
			return nil, err
		}
		if ok {
			m.heap = append(m.heap, i)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return m, nil
}

// before is the order of entries: by key, the younger one first.
func (m *merge) before(a, b int) bool {
	c := bytes.Compare(m.cursors[a].at.key, m.cursors[b].at.key)
	return c < 0 || c == 0 && a < b
}

// sink brings the cursor at a place of the heap to where it belongs.
func (m *merge) sink(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heap); child++ {
			if m.before(m.heap[child], m.heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// pass moves the cursor that is first.
func (m *merge) pass() error {
	ok, err := m.cursors[m.heap[0]].move()
	if err != nil {
		return err
	}
	if !ok {
		last := len(m.heap) - 1
		m.heap[0], m.heap = m.heap[last], m.heap[:last]
	}
	if len(m.heap) > 0 {
		m.sink(0)
	}
	return nil
}

// take returns the next entry; its parts are those of a run.
func (m *merge) take() (e raw, ok bool, err error) {
	if len(m.heap) == 0 {
		return e, false, nil
	}
	e = m.cursors[m.heap[0]].at
	if err := m.pass(); err != nil {
		return e, false, err
	}
	for len(m.heap) > 0 && bytes.Equal(m.cursors[m.heap[0]].at.key, e.key) { // older ones of the same key
		if err := m.pass(); err != nil {
			return e, false, err
		}
	}
	return e, true, nil
}
