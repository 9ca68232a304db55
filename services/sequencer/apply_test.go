package sequencer

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

const gap = 30_000_000 // 30 s in microseconds

func item(mode Mode, seq int64, a Action) Item {
	return Item{ID: fmt.Sprintf("e%d-%d", seq, a), Mode: mode, Action: a, Seq: seq, HasSeq: mode != Arrival, Gap: gap}
}

var rules = Rules{MaxHeld: DefaultMaxHeld, Tombstone: DefaultTombstoneTTL.Microseconds()}

// decide and expire return decisions of their own.
func decide(s *State, it Item, now int64) (d Decision) { Apply(s, it, rules, now, &d); return d }
func expire(s *State, now int64) (d Decision)          { Expire(s, rules, now, &d); return d }

// apply feeds items and returns the sequences that pass, with the last decision.
func apply(s *State, items ...Item) (passed []int64, last Decision) {
	for _, it := range items {
		last = decide(s, it, 0)
		for _, e := range last.Emits {
			passed = append(passed, e.Item.Seq)
		}
	}
	return passed, last
}

func TestContiguous(t *testing.T) {
	c := func(seq int64) Item { return item(Contiguous, seq, Updated) }
	tests := []struct {
		name  string
		items []Item
		want  []int64
	}{
		{"in order", []Item{c(1), c(2), c(3)}, []int64{1, 2, 3}},
		{"a late one releases those that wait", []Item{c(1), c(3), c(4), c(2)}, []int64{1, 2, 3, 4}},
		{"a repeat is stale", []Item{c(1), c(1)}, []int64{1}},
		{"an old one is stale", []Item{c(1), c(2), c(1)}, []int64{1, 2}},
		{"a repeat of one that waits is stale", []Item{c(1), c(3), c(3), c(2)}, []int64{1, 2, 3}},
		{"the first one seen is not the first", []Item{c(5)}, nil},
		{"a creation begins wherever it stands", []Item{item(Contiguous, 5, Created), c(6)}, []int64{5, 6}},
		{"the largest numbers do not overflow", []Item{item(Contiguous, math.MaxInt64-1, Created), c(math.MaxInt64), c(math.MinInt64)}, []int64{math.MaxInt64 - 1, math.MaxInt64}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := apply(&State{}, tt.items...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("passed %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAGapIsAskedForAtHalfTimeAndGivenUpAtTheEnd(t *testing.T) {
	s := &State{}
	apply(s, item(Contiguous, 1, Created), item(Contiguous, 3, Updated), item(Contiguous, 5, Updated))
	if d := expire(s, gap/2-1); d.Ask || len(d.Emits) > 0 || s.Due() != gap/2 {
		t.Errorf("too early: %+v, due %d", d, s.Due())
	}
	if d := expire(s, gap/2); !d.Ask || len(d.Emits) > 0 {
		t.Errorf("half time: %+v", d)
	}
	if d := expire(s, gap/2+1); d.Ask {
		t.Error("asked twice")
	}
	d := expire(s, gap)
	if len(d.Emits) != 2 || !d.Emits[0].Gap || !d.Emits[1].Gap || d.Emits[0].Item.Seq != 3 || s.Gaps != 2 || s.Due() != 0 {
		t.Errorf("at the end: %+v, %+v", d, s)
	}
}

func TestAPollEndsTheWait(t *testing.T) {
	s := &State{}
	apply(s, item(Contiguous, 1, Created), item(Contiguous, 3, Updated), item(Contiguous, 4, Updated), item(Contiguous, 6, Updated))
	poll := item(Contiguous, 4, Updated)
	poll.State, poll.ID = true, "poll"
	d := decide(s, poll, 0)
	if len(d.Emits) != 1 || len(d.Stale) != 2 || s.Last != 4 || len(s.Held) != 1 {
		t.Errorf("%+v\n%+v", d, s)
	}
}

func TestTooManyThatWaitPassInOrderAndMarked(t *testing.T) {
	s := &State{}
	var passed []int64
	for seq := int64(DefaultMaxHeld + 10); seq > 2; seq-- {
		p, _ := apply(s, item(Contiguous, seq, Updated))
		passed = append(passed, p...)
	}
	if len(passed) <= DefaultMaxHeld || passed[0] > passed[1] || s.Gaps == 0 {
		t.Errorf("%d passed: %v", len(passed), passed)
	}
}

func TestMonotonic(t *testing.T) {
	m := func(seq int64, a Action) Item { return item(Monotonic, seq, a) }
	restore := m(7, Created)
	restore.Occurred = 5
	const noon = 1_767_268_800_000_000 // a time in whole seconds
	fetched := m(noon, Updated)
	fetched.Fetch = true
	tests := []struct {
		name  string
		items []Item
		want  []int64
	}{
		{"newer wins, older is dropped", []Item{m(1, Created), m(9, Updated), m(5, Updated)}, []int64{1, 9}},
		{"a late update does not raise the dead", []Item{m(1, Created), m(9, Deleted), m(5, Updated)}, []int64{1, 9}},
		{"a newer create does", []Item{m(1, Created), m(9, Deleted), m(10, Created)}, []int64{1, 9, 10}},
		{"a deletion wins a tie", []Item{m(7, Updated), m(7, Deleted)}, []int64{7, 7}},
		{"an update loses a tie", []Item{m(7, Deleted), m(7, Updated)}, []int64{7}},
		{"a restore at the same version comes back", []Item{m(7, Deleted), restore}, []int64{7, 7}},
		{"a change in the second of the deletion is asked for", []Item{m(noon, Deleted), fetched}, []int64{noon, noon}},
		{"a creation in the second of the deletion is asked for", []Item{m(noon, Deleted), m(noon, Created)}, []int64{noon, noon}},
		{"a second deletion is not", []Item{m(noon, Deleted), m(noon, Deleted)}, []int64{noon}},
		{"nor an update whose content is in it", []Item{m(noon, Deleted), m(noon, Updated)}, []int64{noon}},
		{"an update before its create", []Item{m(2, Updated), m(1, Created)}, []int64{2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := apply(&State{}, tt.items...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("passed %v, want %v", got, tt.want)
			}
		})
	}
}

func TestArrivalPassesEverythingAndSaysWhereItIsInDoubt(t *testing.T) {
	s := &State{}
	for i, step := range []struct {
		action   Action
		occurred int64
		refetch  bool
	}{{Created, 1, false}, {Updated, 2, false}, {Created, 3, true}, {Deleted, 4, false}, {Updated, 5, true}, {Deleted, 3, true}} {
		it := item(Arrival, 0, step.action)
		it.Occurred = step.occurred
		d := decide(s, it, 0)
		if len(d.Emits) != 1 || d.Emits[0].Refetch != step.refetch || d.Emits[0].Revision != int64(i+1) {
			t.Errorf("step %d: %+v", i, d)
		}
	}
}

func TestAnEventWithoutPositionIsNeverDropped(t *testing.T) {
	s := &State{}
	apply(s, item(Monotonic, 5, Created))
	it := item(Monotonic, 0, Updated)
	it.HasSeq = false
	if d := decide(s, it, 0); len(d.Emits) != 1 || !d.Emits[0].Refetch || s.Last != 5 {
		t.Errorf("%+v, %+v", d, s)
	}
}

// Whatever is lost, repeated and reordered: no document goes back, every event is passed, stale or held, and when the last
// state has come (by webhook or poll) and time has passed, the document is as its source has it.
func TestAnyDeliveryConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mode := rapid.SampledFrom([]Mode{Contiguous, Monotonic, SourceContiguous}).Draw(rt, "mode")
		n := rapid.IntRange(1, 30).Draw(rt, "changes")
		history := make([]Item, n)
		deleted := true
		for i := range history {
			a := Updated
			switch {
			case deleted:
				a, deleted = Created, false
			case rapid.IntRange(0, 4).Draw(rt, "action") == 0:
				a, deleted = Deleted, true
			}
			history[i] = item(mode, int64(i+1), a)
		}
		var delivery []Item
		for _, it := range history {
			for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(rt, "copies") {
				delivery = append(delivery, it)
			}
		}
		delivery = rapid.Permutation(delivery).Draw(rt, "order")
		final := history[n-1]
		final.State, final.ID = true, "poll"
		at := rapid.IntRange(0, len(delivery)).Draw(rt, "the poll's place")
		if at == len(delivery) || rapid.Bool().Draw(rt, "poll at the end too") {
			delivery = append(delivery, final)
		} else {
			delivery = append(delivery[:at:at], append([]Item{final}, delivery[at:]...)...)
		}
		s := &State{}
		last, revision, now := int64(math.MinInt64), int64(0), int64(0)
		check := func(d Decision, in int) {
			for _, e := range d.Emits {
				if e.Item.Seq < last || e.Revision != revision+1 {
					rt.Fatalf("went back: %+v after position %d, revision %d", e, last, revision)
				}
				last, revision = e.Item.Seq, e.Revision
			}
			_ = in
		}
		accounted := 0
		for _, it := range delivery {
			now += int64(rapid.IntRange(0, gap).Draw(rt, "pause"))
			d := expire(s, now)
			check(d, 0)
			accounted += len(d.Emits) + len(d.Stale)
			d = decide(s, it, now)
			check(d, 1)
			accounted += len(d.Emits) + len(d.Stale)
		}
		d := expire(s, now+10*gap)
		check(d, 0)
		accounted += len(d.Emits) + len(d.Stale)
		if accounted != len(delivery) || len(s.Held) != 0 {
			rt.Fatalf("%d of %d events accounted for, %d held", accounted, len(delivery), len(s.Held))
		}
		if s.Last != int64(n) || s.Deleted != (history[n-1].Action == Deleted) {
			rt.Fatalf("ended at %d (deleted %v), the source is at %d (deleted %v)", s.Last, s.Deleted, n, history[n-1].Action == Deleted)
		}
	})
}

// The common case costs no memory.
func BenchmarkApply(b *testing.B) {
	for _, mode := range []Mode{Arrival, Monotonic, Contiguous, SourceContiguous} {
		b.Run(fmt.Sprint("mode ", mode), func(b *testing.B) {
			s, d := &State{}, &Decision{}
			it := item(mode, 0, Updated)
			b.ReportAllocs()
			for b.Loop() {
				it.Seq++
				Apply(s, it, rules, 0, d)
			}
			if s.Revision != it.Seq {
				b.Fatalf("%d of %d passed", s.Revision, it.Seq)
			}
		})
	}
}
