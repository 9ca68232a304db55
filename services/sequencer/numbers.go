package sequencer

import "slices"

// maxSpans bounds how many holes of a source are told apart.
const maxSpans = 1000

// Span is a run of numbers behind a hole.
type Span struct {
	// From and To are its first and last number.
	From, To int64
	// Since when the hole before it is open, in microseconds.
	Since int64
}

// Numbers is a compact set of the numbers that a source has counted: everything up to a point, and spans beyond it.
type Numbers struct {
	Started bool
	// Upto: all numbers up to here came, or were given up.
	Upto int64
	// Spans beyond it, ascending.
	Spans []Span
	// Lost counts the holes that were given up.
	Lost int64
	// Gap is how long a hole is waited for, in microseconds, as the source's events said last.
	Gap int64
}

// Add notes a number. The first one that is ever seen begins the count.
func (n *Numbers) Add(x, now int64) {
	if !n.Started {
		n.Started, n.Upto = true, x
		return
	}
	if x <= n.Upto {
		return
	}
	i, found := slices.BinarySearchFunc(n.Spans, x, func(s Span, x int64) int {
		switch {
		case s.To < x:
			return -1
		case s.From > x:
			return 1
		}
		return 0
	})
	if found {
		return
	}
	since := now
	if i < len(n.Spans) {
		since = n.Spans[i].Since // a number in the middle of a hole: what is left below is as old as the hole
	}
	n.Spans = slices.Insert(n.Spans, i, Span{x, x, since})
	if i+1 < len(n.Spans) && n.Spans[i+1].From-1 == x {
		n.Spans[i].To = n.Spans[i+1].To
		n.Spans = slices.Delete(n.Spans, i+1, i+2)
	}
	if i > 0 && n.Spans[i-1].To == x-1 {
		n.Spans[i-1].To = n.Spans[i].To
		n.Spans = slices.Delete(n.Spans, i, i+1)
	}
	n.absorb()
	if len(n.Spans) > maxSpans {
		n.Skip()
	}
}

// absorb moves the point over spans that follow it without a hole.
func (n *Numbers) absorb() {
	for len(n.Spans) > 0 && n.Spans[0].From-1 <= n.Upto {
		n.Upto = max(n.Upto, n.Spans[0].To)
		n.Spans = slices.Delete(n.Spans, 0, 1)
	}
}

// Oldest is since when the oldest hole is open; 0: there is none.
func (n *Numbers) Oldest() int64 {
	oldest := int64(0)
	for _, s := range n.Spans {
		if oldest == 0 || s.Since < oldest {
			oldest = s.Since
		}
	}
	return oldest
}

// GiveUp closes the holes that were open at a time or before, and all below them. It returns how many.
func (n *Numbers) GiveUp(until int64) (closed int) {
	for i, s := range n.Spans {
		if s.Since <= until {
			closed = i + 1
		}
	}
	if closed > 0 {
		n.Upto = n.Spans[closed-1].To
		n.Spans = slices.Delete(n.Spans, 0, closed)
		n.Lost += int64(closed)
		n.absorb()
	}
	return closed
}

// Skip closes the first hole, whatever its age.
func (n *Numbers) Skip() {
	if len(n.Spans) > 0 {
		n.Upto = n.Spans[0].To
		n.Spans = slices.Delete(n.Spans, 0, 1)
		n.Lost++
	}
}
