package lsm

import "sync/atomic"

// Work is what a table has done in this process since it was opened, rolled back or not: what its rows cost, in units that do not depend on
// the machine.
type Work struct {
	// Asked are the keys that were not in memory, so that runs were asked for them; Filters the filters that were asked for them, one in each run as long as the
	// key is not found, each a word of memory; and Lines the keys for which a line of an index was looked at, or more.
	Asked, Filters, Lines int64
	// Entries are the entries of runs that were looked at for keys, and Vain those of them that were another key's.
	Entries, Vain int64
	// Logged are the bytes that were written into the log.
	Logged int64
	// Flushed are the rows that became a run, Merged those that merges moved on, and Written the bytes of both.
	Flushed, Merged, Written int64
}

// Plus is what both did.
func (w Work) Plus(o Work) Work {
	return Work{
		Asked: w.Asked + o.Asked, Filters: w.Filters + o.Filters, Lines: w.Lines + o.Lines, Entries: w.Entries + o.Entries, Vain: w.Vain + o.Vain,
		Logged: w.Logged + o.Logged, Flushed: w.Flushed + o.Flushed, Merged: w.Merged + o.Merged, Written: w.Written + o.Written,
	}
}

// Since is what was done after an earlier moment.
func (w Work) Since(o Work) Work {
	return w.Plus(Work{
		Asked: -o.Asked, Filters: -o.Filters, Lines: -o.Lines, Entries: -o.Entries, Vain: -o.Vain,
		Logged: -o.Logged, Flushed: -o.Flushed, Merged: -o.Merged, Written: -o.Written,
	})
}

// counters are Work while it happens.
type counters struct {
	asked, filters, lines, entries, vain, logged, flushed, merged, written atomic.Int64
}

// Work returns what was done.
func (t *Table) Work() Work {
	c := &t.work
	return Work{
		Asked: c.asked.Load(), Filters: c.filters.Load(), Lines: c.lines.Load(), Entries: c.entries.Load(), Vain: c.vain.Load(),
		Logged: c.logged.Load(), Flushed: c.flushed.Load(), Merged: c.merged.Load(), Written: c.written.Load(),
	}
}

// Runs is how many runs there are: a key that is not there is asked for in each.
func (t *Table) Runs() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.runs)
}
