// Package sequencer puts each document's events in order.
package sequencer

import (
	"time"

	"github.com/hookmesh/hookmesh/services/internal/stage"
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

// Defaults of what a configuration may change.
const (
	// DefaultGapTimeout is how long a missing predecessor is waited for.
	DefaultGapTimeout = 30 * time.Second
	// DefaultMaxHeld bounds the events that wait for one document. One more ends the wait: what it waited for is given up.
	DefaultMaxHeld = 100
	// DefaultMaxHeldTotal bounds the events that wait in one partition, in the same way.
	DefaultMaxHeldTotal = 10_000
	// DefaultTombstoneTTL is how long a deleted document is remembered. It is longer than any source goes on retrying.
	DefaultTombstoneTTL = 30 * 24 * time.Hour
)

const (
	// second, in the microseconds of all times in states and items.
	second = int64(1_000_000)
	// farFuture is how far ahead of our clock a source's time is still believed: more than any time zone taken for UTC.
	farFuture = 24 * 3600 * second
	// about is how long after something passes it is fetched at the latest, as a rule, and how far clocks are apart.
	about = 300 * second
	// anew is how much newer an event must be by its time to be believed against its number: more than clocks are apart.
	anew = 3600 * second
)

// Item is an event, as far as order is concerned. Times are in microseconds; 0: not known.
type Item struct {
	ID     string
	Mode   Mode
	Action Action
	Seq    int64
	HasSeq bool
	// Occurred is when the source says that it happened.
	Occurred int64
	// Received is when it reached us; of a State: when the source was read. Our clock.
	Received int64 `json:",omitempty"`
	// State: the item tells the source's current state (a poll, a debt) rather than one change, so it never waits.
	State bool
	// Cascade: the deletion of a container of the document; Occurred is the time of that deletion.
	Cascade bool `json:",omitempty"`
	// Fetch: its content is not in the event, so that what the source holds by then is taken.
	Fetch bool `json:",omitempty"`
	// Hash is of its content; 0: not known.
	Hash uint64 `json:",omitempty"`
	// Version is of the version as the source writes it; 0: not known. It tells repeats apart where nothing has a position.
	Version uint64 `json:",omitempty"`
	// Gap is how long a missing predecessor is waited for.
	Gap int64
	// At is since when it is held.
	At int64 `json:",omitempty"`
	// Doubt: another event came at the same position while it was held.
	Doubt bool `json:",omitempty"`
	// Containers are what the document lies in; empty: the event does not say.
	Containers []string `json:",omitempty"`
	// Elsewhere: the document does not lie in the container of a Cascade any more.
	Elsewhere bool `json:"-"`
	// Grave is the newest deletion of one of its containers; the zero Grave: none is known. Whoever calls Apply or Expire
	// fills it, for the items that are held too.
	Grave Grave `json:"-"`
}

// Grave is the deletion of a container.
type Grave struct {
	// Time is when it happened, by the source's clock (ours if the source does not say).
	Time int64
	// At is when we learned of it.
	At int64
}

// dead says whether an item tells of a time before one of its containers was deleted.
func (it *Item) dead() bool {
	switch {
	case it.Grave.Time == 0 || it.Action == Deleted:
		return false
	case it.State:
		return it.Received <= it.Grave.Time
	}
	return it.Occurred != 0 && it.Occurred <= it.Grave.Time
}

// doubtful says whether only the source can tell on which side of its container's deletion an item is.
func (it *Item) doubtful() bool {
	return it.Grave.Time != 0 && it.Action != Deleted && (it.State || it.Occurred == 0)
}

// Sweep is the deletion of a container's members, a batch at a time.
type Sweep struct {
	// Event is the deletion of the container.
	Event string `json:"e"`
	// Grave is its time.
	Grave Grave `json:"g"`
	// Unknown: the source did not say the time.
	Unknown bool `json:"u,omitempty"`
	// At is when the next batch is due, and After the member after which it begins.
	At    int64  `json:"a"`
	After string `json:"k,omitempty"`
	// Again: this is the second pass, for members whose transactions were under way during the first.
	Again bool `json:"p,omitempty"`
	// Headers carry the trace of the deletion.
	Headers []stage.Header `json:"h,omitempty"`
}

// State is what is known of a document. The zero value: nothing was seen. Times are in microseconds.
type State struct {
	Last     int64 `json:"l,omitempty"` // position of the newest event that passed
	HasLast  bool  `json:"h,omitempty"`
	Base     int64 `json:"b,omitempty"` // the revision before the first: what was forgotten had lower ones
	Revision int64 `json:"r,omitempty"` // counts what passed; never goes back
	Deleted  bool  `json:"d,omitempty"` // the newest change was a deletion: a tombstone
	Occurred int64 `json:"o,omitempty"` // newest time that the source gave
	// Hash is of the content at Last; 0: not known.
	Hash uint64 `json:"x,omitempty"`
	// Version is of the version of what passed last.
	Version uint64 `json:"n,omitempty"`
	// Seen is when the source was last read and held nothing newer than Last (our clock); 0: since Last passed it was not.
	Seen int64 `json:"v,omitempty"`
	// Doubt is when something passed last that must be fetched (our clock): what happened before is doubtful too.
	Doubt int64 `json:"f,omitempty"`
	// Gone is when we learned of the deletion, Forget when the tombstone is forgotten.
	Gone   int64 `json:"t,omitempty"`
	Forget int64 `json:"z,omitempty"`
	// In are the document's containers, as its events said last.
	In []string `json:"c,omitempty"`
	// Held are the events that wait, by position.
	Held  []Item `json:"Held,omitempty"`
	Asked bool   `json:"a,omitempty"` // the reconciler was asked for what is missing before the first of Held
	Until int64  `json:"u,omitempty"` // an operator's end of the wait; 0: by the gap timeout
	Gaps  int64  `json:"g,omitempty"` // how many gaps were given up
	// Sweep is under way if the document is a container that was deleted.
	Sweep *Sweep `json:"w,omitempty"`
	// Wake is when the numbers of a whole source are to be looked at (only in the state that stands for a source).
	Wake int64 `json:"y,omitempty"`
}

// gone says whether the document was deleted for sure. In doubt the source is asked, and may have it still.
func (s *State) gone() bool { return s.Deleted && s.Doubt == 0 }

// Deadline is when the wait for what is missing ends; 0: nothing waits.
func (s *State) Deadline() int64 {
	switch {
	case len(s.Held) == 0:
		return 0
	case s.Until != 0:
		return s.Until
	}
	return s.Held[0].At + s.Held[0].Gap
}

// half is when the reconciler is asked.
func (s *State) half() int64 { return s.Held[0].At + s.Held[0].Gap/2 }

// Due is when there is something to decide without an event, in microseconds; 0: never.
func (s *State) Due() int64 {
	due := s.Deadline()
	if due != 0 && !s.Asked {
		due = min(due, s.half())
	}
	next := s.Wake
	if s.Sweep != nil {
		next = s.Sweep.At
	}
	if next == 0 && len(s.Held) == 0 {
		next = s.Forget
	}
	if next != 0 && (due == 0 || next < due) {
		due = next
	}
	return due
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

// Stale is an event that does not pass.
type Stale struct {
	Item   Item
	Reason string
}

// Decision is what follows from an event or from time. It is filled anew by each call; its slices keep their memory.
type Decision struct {
	Emits []Emit
	// Stale are items that are older than what passed.
	Stale []Stale
	// Held says that the event itself waits.
	Held bool
	// Ask says that the reconciler is to be asked for the document.
	Ask bool
}

func (d *Decision) reset() {
	d.Emits, d.Stale, d.Held, d.Ask = d.Emits[:0], d.Stale[:0], false, false
}

func (d *Decision) stale(it *Item, reason string) {
	d.Stale = append(d.Stale, Stale{*it, reason})
}

// Rules bound what a decision may do.
type Rules struct {
	// MaxHeld bounds the events that wait for one document.
	MaxHeld int
	// Full: as many events wait in the partition as may.
	Full bool
	// Tombstone is how long a deleted document is remembered, in microseconds.
	Tombstone int64
}
