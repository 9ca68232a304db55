package skew_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/verifier/skew"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func seconds(t *rapid.T, from, to int, what string) time.Duration {
	return time.Duration(rapid.IntRange(from, to).Draw(t, what)) * time.Second
}

// Whatever is late, the estimate is the true difference less the delay of the most prompt delivery: never more.
func TestLateDeliveriesDoNotSpoilAnEstimate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := seconds(t, -3600, 3600, "offset")
		var s skew.Source
		now, least := start, 24*time.Hour
		for i := range rapid.IntRange(3, 50).Draw(t, "deliveries") {
			now = now.Add(seconds(t, 1, 5, "pause"))
			delay := time.Duration(0)
			if i%3 != 0 {
				delay = seconds(t, 0, 300, "delay")
			}
			if s.Observe(now.Add(offset-delay), now) {
				least = min(least, delay)
			}
		}
		got, known := s.Estimate(now)
		if known && got != offset-least {
			t.Fatalf("estimated %s, is %s, the most prompt was %s late", got, offset, least)
		}
	})
}

// Who replays what he recorded, as often and as late as he likes, moves nothing.
func TestReplaysMoveNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s skew.Source
		now := start
		var recorded []time.Time
		for range rapid.IntRange(3, 20).Draw(t, "deliveries") {
			now = now.Add(seconds(t, 1, 60, "pause"))
			recorded = append(recorded, now)
			s.Observe(now, now)
		}
		before := s
		for range rapid.IntRange(1, 20).Draw(t, "replays") {
			at := now.Add(seconds(t, 0, 100_000, "later"))
			if s.Observe(rapid.SampledFrom(recorded).Draw(t, "replayed"), at) {
				t.Fatal("a replay counted")
			}
		}
		if s != before {
			t.Fatal("a replay left something behind")
		}
	})
}

func TestOldDeliveriesAreNoClocks(t *testing.T) {
	var s skew.Source
	for _, sent := range []time.Time{{}, start.Add(-25 * time.Hour), start.Add(25 * time.Hour)} {
		if s.Observe(sent, start) {
			t.Errorf("%s counted", sent)
		}
	}
	if _, known := s.Estimate(start); known {
		t.Error("something is known of nothing")
	}
	for i := range 3 {
		s.Observe(start.Add(time.Duration(i)*time.Second), start.Add(time.Duration(i)*time.Second))
	}
	if _, known := s.Estimate(start.Add(time.Minute)); !known {
		t.Error("three deliveries are enough")
	}
	if _, known := s.Estimate(start.Add(2 * time.Hour)); known {
		t.Error("what is old is forgotten")
	}
}

func TestAClockThatWasSetIsNoticedWithinMinutes(t *testing.T) {
	for _, jump := range []time.Duration{-10 * time.Minute, 10 * time.Minute, 3 * time.Hour, -3 * time.Hour} {
		var s skew.Source
		real := start
		for ; real.Before(start.Add(2 * time.Hour)); real = real.Add(20 * time.Second) {
			s.Observe(real, real)
		}
		for end := real.Add(11 * time.Minute); real.Before(end); real = real.Add(20 * time.Second) {
			s.Observe(real, real.Add(jump))
		}
		if got, known := s.Estimate(real.Add(jump)); !known || got != -jump {
			t.Errorf("our clock jumped by %s: estimated %s", jump, got)
		}
	}
}

func vote(group string, offset time.Duration) skew.Vote {
	return skew.Vote{Group: group, Offset: offset}
}

func TestOursIsWrongOnlyIfMostOthersAgree(t *testing.T) {
	const m = time.Minute
	tests := []struct {
		name  string
		votes []skew.Vote
		ours  bool
		want  time.Duration
	}{
		{"nobody", nil, false, 0},
		{"one source alone may itself be wrong", []skew.Vote{vote("a", 10*m)}, false, 0},
		{"many sources of one provider are one voice", []skew.Vote{vote("a", 10*m), vote("a", 10*m), vote("a", 10*m)}, false, 0},
		{"two that agree", []skew.Vote{vote("a", 10*m), vote("b", 10*m+5*time.Second)}, true, 10 * m},
		{"two that do not", []skew.Vote{vote("a", 10*m), vote("b", 0)}, false, 0},
		{"two of three", []skew.Vote{vote("a", -10*m), vote("b", 0), vote("c", -10*m)}, true, -10 * m},
		{"half of four", []skew.Vote{vote("a", 10*m), vote("b", 10*m), vote("c", 0), vote("d", 0)}, false, 0},
		{"all are right", []skew.Vote{vote("a", 0), vote("b", -5*time.Second), vote("c", -2*time.Second)}, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := skew.Judge(tt.votes)
			if v.Ours != tt.ours || v.Offset != tt.want || (v.Describe() != "") != tt.ours {
				t.Errorf("got %+v %q", v, v.Describe())
			}
			if got := v.Correction(5 * m); got.Abs() > 5*m || !tt.ours && got != 0 {
				t.Errorf("corrected by %s", got)
			}
		})
	}
}

// One group, whatever it claims, can neither make our clock the wrong one against two that are right, nor move the correction by
// more than the agreement.
func TestOneLiarAmongThreeMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := seconds(t, -3600, 3600, "truth")
		lie := seconds(t, -86400, 86400, "lie")
		v := skew.Judge([]skew.Vote{vote("a", truth), vote("b", truth), vote("liar", lie)})
		if v.Ours && (v.Offset-truth).Abs() > skew.Agreement || v.Ours != (v.Offset.Abs() >= skew.Notable && v.Agreeing >= 2) {
			t.Fatalf("%+v", v)
		}
		if truth == 0 && v.Ours {
			t.Fatalf("our clock is right, and called wrong: %+v", v)
		}
	})
}
