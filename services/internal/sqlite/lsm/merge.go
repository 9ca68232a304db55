package lsm

import (
	"context"
	"fmt"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

const (
	// mergeShare is how many entries each merge moves for one that is written. While a merge of a level takes in Fanout runs,
	// half as many of these can come: two are fast enough that the runs of a level do not pile up, as long as the process lives for a merge.
	mergeShare = 2
	// mergeLeast is how many it moves at least.
	mergeLeast = 64
)

// job merges the runs of a level into one of the next.
type job struct {
	inputs []*run
	merge  merge
	out    *writer
	// bottom: nothing is older than what is merged, so that what is deleted or expired needs no trace.
	bottom bool
}

// work goes on with merges and removals, in proportion to what was written.
func (v *View) work(ctx context.Context, written int, now int64) error {
	if err := v.start(ctx); err != nil {
		return fmt.Errorf("begin to merge runs: %w", err)
	}
	for level, j := range v.t.jobs {
		v.worked = true
		done, err := v.step(ctx, j, v.pressure(level)*(mergeShare*written+mergeLeast), now)
		if err != nil {
			return fmt.Errorf("merge runs of level %d: %w", level, err)
		}
		if done {
			delete(v.t.jobs, level)
		}
	}
	if err := v.expire(ctx, now); err != nil {
		return fmt.Errorf("drop an expired run: %w", err)
	}
	if err := v.clean(ctx, written); err != nil {
		return fmt.Errorf("delete the pages of a merged run: %w", err)
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

// start begins to merge each level that has enough runs.
func (v *View) start(ctx context.Context) error {
	levels := map[int][]*run{}
	for _, r := range v.runs {
		levels[r.level] = append(levels[r.level], r)
	}
	for level, runs := range levels {
		others := v.t.building[level+1]
		if len(runs) < v.t.opts.Fanout || v.t.jobs[level] != nil || (len(others) > 0 && len(runs) < 2*v.t.opts.Fanout) {
			continue // another process merges them; if it does not get on, it has died
		}
		v.worked = true
		for _, id := range others {
			if err := v.kill(ctx, id); err != nil {
				return err
			}
			v.version++ // if it lives, it is told
		}
		delete(v.t.building, level+1)
		inputs := runs[len(runs)-v.t.opts.Fanout:] // the oldest
		total := int64(0)
		cursors := make([]cursor, len(inputs))
		for i, r := range inputs {
			total += r.entries
			cursors[i] = v.t.cursorAfter(r, "")
		}
		out, err := v.begin(ctx, level+1, inputs[0].upto, total)
		if err != nil {
			return err
		}
		v.t.jobs[level] = &job{inputs: inputs, merge: merge{cursors}, out: out, bottom: inputs[len(inputs)-1] == v.runs[len(v.runs)-1]}
	}
	return nil
}

// step moves a number of entries.
func (v *View) step(ctx context.Context, j *job, budget int, now int64) (done bool, err error) {
	for range budget {
		e, ok, err := j.merge.next(ctx, v.tx)
		if err != nil {
			return false, err
		}
		if !ok {
			return true, v.finish(ctx, j)
		}
		if expired := e.expires != 0 && e.expires <= now; expired || e.deleted {
			if j.bottom {
				continue
			}
			e.value, e.deleted = nil, true
		}
		if err := j.out.add(ctx, v.tx, &e); err != nil {
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
		if err := v.kill(ctx, r.id); err != nil {
			return err
		}
	}
	if j.out.run.entries > 0 {
		return nil
	}
	v.runs = slices.Delete(v.runs, at, at+1)
	return v.kill(ctx, j.out.run.id)
}

// kill makes a run garbage.
func (v *View) kill(ctx context.Context, id int64) error {
	if _, err := v.tx.Exec(ctx, v.t.sql.killRun, id); err != nil {
		return err
	}
	v.worked = true
	v.t.garbage = append(v.t.garbage, id)
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
	return v.kill(ctx, oldest.id)
}

// clean deletes some pages of what is garbage.
func (v *View) clean(ctx context.Context, written int) error {
	for _, id := range v.t.vain {
		if err := v.kill(ctx, id); err != nil {
			return err
		}
	}
	v.t.vain = nil
	if len(v.t.garbage) == 0 {
		return nil
	}
	v.worked = true
	id := v.t.garbage[0]
	limit := written/8 + 16
	gone, err := deletePages(ctx, v.tx, v.t.sql, id, limit)
	if err != nil || gone == limit {
		return err
	}
	v.t.garbage = v.t.garbage[1:]
	_, err = v.tx.Exec(ctx, v.t.sql.dropRun, id)
	return err
}

func deletePages(ctx context.Context, tx *sqlite.Tx, s statements, id int64, limit int) (int, error) {
	r := run{id: id}
	res, err := tx.Exec(ctx, s.dropPages, r.page(0), r.page(1<<pageBits-1), limit)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}
