// Package sequencer puts each document's events in order.
package sequencer

import (
	"math"
	"slices"
	"time"
)

// Mode is what proves the order of a document's events.
type Mode int

// The modes.
const (
	// Arrival has no proof but the order of arrival.
	Arrival Mode = iota
	// Monotonic: a version or time that only grows. Newer wins, nothing is waited for.
	Monotonic
	// Contiguous: 1, 2, 3 per document. A hole is waited for.
	Contiguous
	// SourceContiguous: one counter over the source; per document it only grows.
	SourceContiguous
)

// Action is what happened to the document.
type Action int

// The actions.
const (
	Created Action = iota
	Updated
	Deleted
)

// DefaultGapTimeout is how long a missing predecessor is waited for.
const DefaultGapTimeout = 30 * time.Second

// MaxHeld bounds the events that wait for one document. One more ends the wait: they are emitted in order and marked.
const MaxHeld = 100

// Item is an event, as far as order is concerned.
type Item struct {
	ID       string
	Mode     Mode
	Action   Action
	Seq      int64
	HasSeq   bool
	Occurred int64 // microseconds; 0: not known
	// State: the item tells the source's current state (a poll, a debt) rather than one change, so it never waits.
	State bool
	// Gap is how long a missing predecessor is waited for, in microseconds.
	Gap int64
}

// State is what is known of a document. The zero value: nothing was seen.
type State struct {
	Last     int64 `json:"l,omitempty"` // position of the newest event that passed
	HasLast  bool  `json:"h,omitempty"`
	Revision int64 `json:"r,omitempty"` // counts what passed; never goes back
	Deleted  bool  `json:"d,omitempty"` // the newest change was a deletion: a tombstone
	Occurred int64 `json:"o,omitempty"` // newest time that the source gave
	Held     []Item
	Since    int64 `json:"s,omitempty"` // since when something waits, in microseconds
	Asked    bool  `json:"a,omitempty"` // the reconciler was asked for the document
	Gaps     int64 `json:"g,omitempty"`
}

// Emit is an event that passes.
type Emit struct {
	Item     Item
	Revision int64
	// Refetch: the order is in doubt, so the current state must be fetched.
	Refetch bool
	// Gap: a predecessor is missing.
	Gap    bool
	Reason string
}

// Decision is what follows from an event or from time.
type Decision struct {
	Emits []Emit
	// Stale are items that are older than what passed.
	Stale []Item
	// Held says that the event itself waits.
	Held bool
	// Ask says that the reconciler is to be asked for the document.
	Ask bool
}

// Apply decides on an event. It changes nothing but the state that it is given.
func Apply(s *State, it Item, now int64) Decision {
	switch {
	case it.Mode == Arrival || !it.HasSeq:
		return s.arrival(it)
	case it.Mode == Contiguous && !it.State:
		return s.contiguous(it, now)
	}
	return s.monotonic(it)
}

// arrival passes everything and says where it is in doubt.
func (s *State) arrival(it Item) Decision {
	reason, doubt := "in the order of arrival", it.State || it.Mode != Arrival
	switch {
	case s.Revision > 0 && it.Action == Created && !s.Deleted:
		reason, doubt = "created, but it existed already: the order is in doubt", true
	case s.Deleted && it.Action == Updated:
		reason, doubt = "updated after it was deleted: the order is in doubt", true
	case it.Occurred != 0 && it.Occurred < s.Occurred:
		reason, doubt = "older than what came before: the order is in doubt", true
	}
	var d Decision
	d.Emits = append(d.Emits, s.pass(it, doubt, false, reason))
	return d
}

// monotonic passes what is newer. At the same position a deletion wins, because sources do not count it; and what was
// deleted at a position may be restored at it.
func (s *State) monotonic(it Item) Decision {
	var d Decision
	switch {
	case !s.HasLast || it.Seq > s.Last:
		d.Emits = append(d.Emits, s.pass(it, false, false, "newer than what is known"))
	case it.Seq == s.Last && it.Action == Deleted && !s.Deleted:
		d.Emits = append(d.Emits, s.pass(it, false, false, "deleted at the newest position"))
	case it.Seq == s.Last && it.Action == Created && s.Deleted && it.Occurred > s.Occurred:
		d.Emits = append(d.Emits, s.pass(it, true, false, "restored at the position at which it was deleted"))
	default:
		d.Stale = append(d.Stale, it)
		return d
	}
	s.drain(&d)
	return d
}

// contiguous passes the next one, and holds what comes too early.
func (s *State) contiguous(it Item, now int64) Decision {
	var d Decision
	switch {
	case s.HasLast && it.Seq <= s.Last:
		d.Stale = append(d.Stale, it)
	case s.isNext(it):
		d.Emits = append(d.Emits, s.pass(it, false, false, "the next one"))
		s.drain(&d)
	case slices.ContainsFunc(s.Held, func(h Item) bool { return h.Seq == it.Seq }):
		d.Stale = append(d.Stale, it)
	default:
		if len(s.Held) == 0 {
			s.Since, s.Asked = now, false
		}
		at, _ := slices.BinarySearchFunc(s.Held, it, func(a, b Item) int { return compare(a.Seq, b.Seq) })
		s.Held = slices.Insert(s.Held, at, it)
		d.Held = true
		if len(s.Held) > MaxHeld {
			d.Held = false
			s.giveUp(&d, "too many wait: passed in order although a predecessor is missing")
		}
	}
	return d
}

// isNext says whether nothing is missing before an item. Of a document that was never seen, 0, 1 and its creation are the first.
func (s *State) isNext(it Item) bool {
	if !s.HasLast {
		return it.Seq <= 1 || it.Action == Created
	}
	return it.Seq > math.MinInt64 && it.Seq-1 == s.Last
}

// drain passes what no longer waits and drops what has become old.
func (s *State) drain(d *Decision) {
	for len(s.Held) > 0 {
		it := s.Held[0]
		switch {
		case it.Seq <= s.Last:
			d.Stale = append(d.Stale, it)
		case s.isNext(it):
			d.Emits = append(d.Emits, s.pass(it, false, false, "its predecessor came"))
		default:
			return
		}
		s.Held = s.Held[1:]
	}
	s.Since, s.Asked = 0, false
}

// Expire decides on time: at half of the wait the reconciler is asked, at its end everything passes in order.
func Expire(s *State, now int64) Decision {
	var d Decision
	if len(s.Held) == 0 {
		return d
	}
	if now >= s.Since+s.Held[0].Gap {
		s.giveUp(&d, "its predecessor did not come in time")
		return d
	}
	if !s.Asked && now >= s.Since+s.Held[0].Gap/2 {
		s.Asked, d.Ask = true, true
	}
	return d
}

// giveUp ends the wait: everything passes in order, the first one marked.
func (s *State) giveUp(d *Decision, reason string) {
	held := s.Held
	s.Held, s.Since, s.Asked = nil, 0, false
	s.Gaps++
	for _, it := range held {
		gap := !s.isNext(it)
		d.Emits = append(d.Emits, s.pass(it, gap, gap, reason))
	}
}

// Due is when Expire has something to decide, in microseconds; 0: never.
func (s *State) Due() int64 {
	switch {
	case len(s.Held) == 0:
		return 0
	case s.Asked:
		return s.Since + s.Held[0].Gap
	}
	return s.Since + s.Held[0].Gap/2
}

// pass lets an item through.
func (s *State) pass(it Item, refetch, gap bool, reason string) Emit {
	s.Revision++
	if it.HasSeq && it.Mode != Arrival {
		s.Last, s.HasLast = it.Seq, true
	}
	s.Deleted = it.Action == Deleted
	s.Occurred = max(s.Occurred, it.Occurred)
	return Emit{Item: it, Revision: s.Revision, Refetch: refetch, Gap: gap, Reason: reason}
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
