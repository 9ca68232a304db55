package sequencer

import "slices"

// maxSpans bounds how many holes of a source are told apart.
const maxSpans = 1000

// Numbers is a compact set of the numbers that a source has counted: everything up to a point, and spans beyond it.
type Numbers struct {
	Started bool
	// Upto: all numbers up to here came, or were given up.
	Upto int64
	// Spans beyond it, ascending: first and last number of each.
	Spans [][2]int64
	// Since when there has been a hole, in microseconds; 0: there is none.
	Since int64
	// Lost counts the holes that were given up.
	Lost int64
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
	i, found := slices.BinarySearchFunc(n.Spans, x, func(s [2]int64, x int64) int {
		switch {
		case s[1] < x:
			return -1
		case s[0] > x:
			return 1
		}
		return 0
	})
	if found {
		return
	}
	n.Spans = slices.Insert(n.Spans, i, [2]int64{x, x})
	if i+1 < len(n.Spans) && n.Spans[i+1][0]-1 == x {
		n.Spans[i][1] = n.Spans[i+1][1]
		n.Spans = slices.Delete(n.Spans, i+1, i+2)
	}
	if i > 0 && n.Spans[i-1][1] == x-1 {
		n.Spans[i-1][1] = n.Spans[i][1]
		n.Spans = slices.Delete(n.Spans, i, i+1)
	}
	n.absorb()
	if len(n.Spans) > maxSpans {
		n.GiveUp()
	}
	switch {
	case len(n.Spans) == 0:
		n.Since = 0
	case n.Since == 0:
		n.Since = now
	}
}

// absorb moves the point over spans that follow it without a hole.
func (n *Numbers) absorb() {
	for len(n.Spans) > 0 && n.Spans[0][0]-1 <= n.Upto {
		n.Upto = max(n.Upto, n.Spans[0][1])
		n.Spans = n.Spans[1:]
	}
}

// GiveUp closes all holes.
func (n *Numbers) GiveUp() {
	if len(n.Spans) == 0 {
		return
	}
	n.Lost += int64(len(n.Spans))
	n.Upto = n.Spans[len(n.Spans)-1][1]
	n.Spans, n.Since = nil, 0
}
