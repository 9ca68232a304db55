package sequencer

import (
	"math"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/events"
)

// Apply decides on an event. It changes nothing but the state and the decision that it is given.
func Apply(s *State, it Item, r Rules, now int64, d *Decision) {
	d.reset()
	core := core{s, d, r, now}
	if it.Occurred > now+farFuture {
		it.Occurred = 0 // not to be believed
	}
	switch {
	case it.Cascade:
		core.cascade(&it)
	case it.dead() && !core.livesAfter(&it) && (it.Mode != Contiguous || it.State || !it.HasSeq || core.isNext(&it)):
		core.bury(&it)
		core.drain()
	case it.Mode == Monotonic && it.HasSeq && it.Seq > now+farFuture && it.Seq <= events.LatestTime && now > events.EarliestTime:
		core.future(&it)
	case it.Mode == Arrival || !it.HasSeq:
		core.arrival(&it)
	case it.Mode == Contiguous && !it.State:
		core.contiguous(&it)
	default:
		core.monotonic(&it)
	}
}

// core is one decision.
type core struct {
	*State
	d   *Decision
	r   Rules
	now int64
}

// arrival passes everything and says where it is in doubt.
func (s *core) arrival(it *Item) {
	if it.Version != 0 && it.Version == s.Version && !s.Deleted && it.Action != Deleted && it.Mode == Arrival {
		// A poll and a webhook about one version are one change.
		if it.State {
			s.Seen = max(s.Seen, it.Received)
			s.d.stale(it, "this version passed already")
			return
		}
		if s.Seen != 0 && s.covered(it) {
			s.d.stale(it, "this version was read from the source already")
			return
		}
	}
	reason, doubt := "in the order of arrival", it.State || it.Mode != Arrival
	switch {
	case s.Revision > 0 && it.Action == Created && !s.Deleted:
		reason, doubt = "created, but it existed already: the order is in doubt", true
	case s.Deleted && it.Action == Updated:
		reason, doubt = "updated after it was deleted: the order is in doubt", true
	case it.Occurred != 0 && it.Occurred < s.Occurred:
		reason, doubt = "older than what came before: the order is in doubt", true
	}
	s.pass(it, doubt, false, reason)
}

// future passes an event whose position is a time that has not come: believed, it would make everything real stale until then.
func (s *core) future(it *Item) {
	it.HasSeq = false
	s.pass(it, true, false, "its position is a time in the future: the order is in doubt")
}

// monotonic passes what is newer.
func (s *core) monotonic(it *Item) {
	switch {
	case !s.HasLast || it.Seq > s.Last:
		s.pass(it, false, false, "newer than what is known")
		s.drain()
	case it.Seq == s.Last:
		s.same(it)
	default:
		s.older(it)
	}
}

// contiguous passes the next one, and holds what comes too early.
func (s *core) contiguous(it *Item) {
	switch {
	case s.HasLast && it.Seq < s.Last:
		s.older(it)
		return
	case s.HasLast && it.Seq == s.Last:
		s.same(it)
		return
	case s.isNext(it):
		s.pass(it, false, false, "the next one")
		s.drain()
		return
	}
	at, found := slices.BinarySearchFunc(s.Held, it.Seq, func(h Item, seq int64) int { return compare(h.Seq, seq) })
	if found {
		s.Held[at].Doubt = s.Held[at].Doubt || s.Held[at].Hash != it.Hash
		s.d.stale(it, "its position waits already")
		return
	}
	it.At = s.now
	if at == 0 {
		s.Asked, s.Until = false, 0
	}
	s.Held = slices.Insert(s.Held, at, *it)
	if len(s.Held) > s.r.MaxHeld || s.r.Full {
		s.giveUp("too many wait: passed in order although a predecessor is missing")
	}
	s.d.Held = slices.ContainsFunc(s.Held, func(h Item) bool { return h.ID == it.ID })
}

// same decides on an item at the position of the newest that passed. Sources do not count deletions and restorations; and
// positions that are whole seconds are shared by all changes of that second.
func (s *core) same(it *Item) {
	switch {
	case it.Action == Deleted && !s.gone():
		old := it.State || (it.Occurred != 0 && it.Occurred < s.Occurred)
		s.pass(it, old, false, "deleted at the newest position")
	case s.Deleted && it.Action != Deleted && it.State && it.Received > s.Gone:
		s.pass(it, true, false, "the source has it, and was asked after it was deleted")
	case s.Deleted && it.Action == Created && it.Occurred > s.Occurred:
		s.pass(it, true, false, "restored at the position at which it was deleted")
	case s.Deleted && events.CoarseTime(it.Seq) && (it.Fetch || it.Action == Created) && it.Action != Deleted:
		s.pass(it, true, false, "in the second in which it was deleted: the source is asked")
	case s.Deleted:
		s.d.stale(it, "deleted at this position")
	case it.State && events.CoarseTime(it.Seq) && s.Seen < it.Seq+second:
		s.pass(it, true, false, "read after the second of its position was over")
	case it.State:
		s.Seen = max(s.Seen, it.Received)
		s.d.stale(it, "this position passed already")
	case s.Seen != 0 && !s.covered(it):
		s.pass(it, true, false, "the position was read from the source before this happened: the order is in doubt")
	case s.Seen == 0 && it.Hash != s.Hash && it.Hash != 0 && s.Hash != 0:
		s.pass(it, true, false, "the same position with other content: the order is in doubt")
	default:
		s.d.stale(it, "this position passed already")
	}
}

// covered says whether what the source held when it was read includes the item.
func (s *core) covered(it *Item) bool {
	when := it.Received
	if it.Occurred != 0 {
		when = it.Occurred
		if events.CoarseTime(it.Seq) {
			when += second
		}
		if it.Received != 0 {
			when = min(when, it.Received)
		}
	}
	return when <= s.Seen
}

// older decides on an item before the newest that passed. One that is much newer by its time shows that the numbers began
// anew, or that the newest was no true number.
func (s *core) older(it *Item) {
	if !it.State && it.Occurred != 0 && s.Occurred != 0 && it.Occurred > s.Occurred+anew {
		s.pass(it, true, false, "older by its number, much newer by its time: the numbers began anew")
		return
	}
	s.d.stale(it, "older than what is known of the document")
}

// livesAfter says whether an item comes, by its position, after something that proves that the document lives again since its
// container was deleted: then clocks that differ do not count.
func (s *core) livesAfter(it *Item) bool {
	return it.HasSeq && it.Mode != Arrival && !it.State && s.HasLast && !s.Deleted && it.Seq > s.Last && s.Occurred > it.Grave.Time
}

// bury takes an item that tells of a time before its container was deleted: so the document is gone. If it is newer than
// what is known of a document that lives, it passes as a deletion, because that is how the deletion of a container that the
// document was not known to lie in comes to be known. Otherwise it is stale.
func (s *core) bury(it *Item) {
	positioned := it.HasSeq && it.Mode != Arrival
	newer := it.Occurred >= s.Occurred
	if positioned {
		newer = !s.HasLast || it.Seq > s.Last
	}
	if newer && s.Revision > 0 && !s.gone() {
		gone := *it
		gone.Action, gone.Fetch = Deleted, false
		s.pass(&gone, false, false, "what it lay in was deleted after that")
		return
	}
	s.d.stale(it, "what the document lay in was deleted after that")
	if newer && positioned {
		s.Last, s.HasLast, s.Hash, s.Seen = it.Seq, true, it.Hash, 0
	}
	if s.Revision == 0 && !s.Deleted {
		s.Deleted, s.Gone, s.Forget = true, s.now, s.now+s.r.Tombstone
	}
}

// cascade deletes a document because a container of it was deleted, unless it is newer than that or lies elsewhere by now.
func (s *core) cascade(it *Item) {
	switch {
	case s.Revision == 0:
		s.d.stale(it, "nothing of the document had passed")
		return
	case it.Elsewhere:
		s.d.stale(it, "the document does not lie in it any more")
		return
	case s.gone():
		s.d.stale(it, "it was deleted already")
		return
	case s.Occurred > it.Occurred:
		s.d.stale(it, "the document is newer than the deletion of what it lay in")
		return
	case s.Seen > it.Received:
		s.d.stale(it, "the source had the document after the deletion of what it lay in")
		return
	}
	doubt := it.Doubt || s.Occurred == 0
	it.HasSeq = false
	s.pass(it, doubt, false, "what it lay in was deleted")
	s.Held = slices.DeleteFunc(s.Held, func(h Item) bool {
		if h.dead() {
			s.d.stale(&h, "what the document lay in was deleted after that")
		}
		return h.dead()
	})
}

// isNext says whether nothing is missing before an item. Of a document that was never seen, 0, 1 and its creation are the first.
func (s *core) isNext(it *Item) bool {
	if !s.HasLast {
		return it.Seq <= 1 || it.Action == Created
	}
	return it.Seq > math.MinInt64 && it.Seq-1 == s.Last
}

// drain passes what no longer waits and drops what has become old.
func (s *core) drain() {
	released := 0
	for released < len(s.Held) {
		it := &s.Held[released]
		switch {
		case it.Seq <= s.Last:
			s.d.stale(it, "a newer state of the document came while it was held")
		case !s.isNext(it):
			s.release(released)
			return
		case it.dead() && !s.livesAfter(it):
			s.bury(it)
		default:
			s.pass(it, it.Doubt, false, "its predecessor came")
		}
		released++
	}
	s.release(released)
}

// release takes the first n out of those that wait.
func (s *core) release(n int) {
	if n == 0 {
		return
	}
	s.Held = slices.Delete(s.Held, 0, n)
	s.Asked, s.Until = false, 0
	if len(s.Held) == 0 {
		s.Held = nil
	}
}

// giveUp ends the wait for what is missing before the first that is held.
func (s *core) giveUp(reason string) {
	s.Gaps++
	it := s.Held[0]
	s.release(1)
	if it.dead() && !s.livesAfter(&it) {
		s.bury(&it)
	} else {
		s.pass(&it, true, true, reason)
	}
	s.drain()
}

// pass lets an item through.
func (s *core) pass(it *Item, refetch, gap bool, reason string) {
	s.Revision++
	positioned := it.HasSeq && it.Mode != Arrival
	if positioned {
		s.Last, s.HasLast = it.Seq, true
		s.Hash, s.Seen = it.Hash, 0
	}
	s.Version = it.Version
	if it.Mode == Arrival {
		s.Seen = 0
	}
	if it.State {
		s.Seen = it.Received
	}
	refetch = s.doubt(it, refetch || it.doubtful())
	s.Deleted, s.Gone, s.Forget = it.Action == Deleted, 0, 0
	if s.Deleted {
		s.Gone = s.now
		s.Forget = s.now + s.r.Tombstone
	}
	// An event that comes late and passes because nothing proves its order does not say where the document lies by now.
	late := !positioned && !it.State && it.Occurred != 0 && it.Occurred < s.Occurred
	if len(it.Containers) > 0 && !it.Cascade && !late {
		s.In = it.Containers
	}
	s.Occurred = max(s.Occurred, it.Occurred)
	s.d.Emits = append(s.d.Emits, Emit{Item: *it, Revision: s.Base + s.Revision, Refetch: refetch, Gap: gap, Reason: reason})
}

// doubt says whether an item that passes must be fetched. What is fetched may be newer than what passes next: so whatever
// happened before something passed that is fetched, or about then, is doubtful.
func (s *core) doubt(it *Item, refetch bool) bool {
	when := it.Occurred
	if when == 0 {
		when = it.Received
	}
	switch {
	case s.Doubt != 0 && when <= s.Doubt+about:
		refetch = true
	case !refetch && !it.Fetch:
		s.Doubt = 0
	}
	if refetch || it.Fetch {
		s.Doubt = s.now
	}
	return refetch
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
