package sequencer

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The set is compared with one that keeps every number, and the age of every missing one.
func TestNumbersKnowEveryHoleAndItsAge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Int64Range(-5, 5).Draw(rt, "first")
		n := Numbers{}
		n.Add(first, 0)
		upto, have, missing := first, map[int64]bool{}, map[int64]int64{}
		for now := int64(1); now <= int64(rapid.IntRange(1, 60).Draw(rt, "steps")); now++ {
			if rapid.IntRange(0, 9).Draw(rt, "what") == 0 {
				until := rapid.Int64Range(0, now).Draw(rt, "until")
				n.GiveUp(until)
				highest := upto
				for x, since := range missing {
					if since <= until {
						highest = max(highest, x)
					}
				}
				for x := range missing {
					if x <= highest {
						have[x] = true
						delete(missing, x)
					}
				}
			} else {
				x := rapid.Int64Range(first-3, first+40).Draw(rt, "x")
				n.Add(x, now)
				if x > upto {
					have[x] = true
					delete(missing, x)
					top := upto
					for y := range have {
						top = max(top, y)
					}
					for y := upto + 1; y < top; y++ {
						if _, known := missing[y]; !known && !have[y] {
							missing[y] = now
						}
					}
				}
			}
			for have[upto+1] {
				upto++
			}
			oldest := int64(0)
			for _, since := range missing {
				if oldest == 0 || since < oldest {
					oldest = since
				}
			}
			if n.Upto != upto || n.Oldest() != oldest {
				rt.Fatalf("%+v: up to %d, the oldest hole since %d; want %d, %d", n, n.Upto, n.Oldest(), upto, oldest)
			}
			if !slices.IsSortedFunc(n.Spans, func(a, b Span) int { return compare(a.From, b.To) }) {
				rt.Fatalf("the spans overlap: %+v", n)
			}
		}
	})
}

func TestNumbersStayBoundedAndDoNotOverflow(t *testing.T) {
	n := Numbers{}
	n.Add(0, 1)
	for x := int64(2); x < 10*maxSpans; x += 2 {
		n.Add(x, 1)
	}
	if len(n.Spans) > maxSpans || n.Lost == 0 {
		t.Errorf("%d spans, %d lost", len(n.Spans), n.Lost)
	}
	n = Numbers{}
	for _, x := range []int64{5, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1} {
		n.Add(x, 1)
	}
	if len(n.Spans) != 1 || n.Spans[0].From != math.MaxInt64-1 || n.Upto != 5 {
		t.Errorf("%+v", n)
	}
}
