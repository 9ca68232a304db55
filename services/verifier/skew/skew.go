// Package skew estimates how far clocks are apart, from the signed times of authentic deliveries: each source's against ours, and
// ours against most of theirs. It is a function of what it is told; it reads no clock.
//
// A delivery can be late, never early: the greatest difference (their time minus ours) in a while is the best estimate, and
// deliveries that were stuck do not spoil it. A signed time that is not newer than the newest one seen says nothing, so that who
// replays what he once recorded moves nothing.
package skew

import (
	"slices"
	"strings"
	"time"
)

const (
	// Window is how long a difference counts.
	Window = time.Hour
	// MaxConsidered is the greatest difference that may be a clock's fault. More is an old delivery.
	MaxConsidered = 24 * time.Hour
	// MinSamples is how many deliveries an estimate wants.
	MinSamples = 3
	// Notable is the least difference that is told of: below, networks and queues explain it.
	Notable = 30 * time.Second
	// Agreement is how near to each other estimates are that agree.
	Agreement = 30 * time.Second
	// parts is into how many slices the window is cut: of each, the greatest difference is kept.
	parts = 12
	slice = Window / parts
	// recent is the while that counts alone if it says enough: the present slice and the one before.
	recent = 2 * slice
)

// Source estimates one source's clock. The zero value knows nothing. It is not safe for concurrent use.
type Source struct {
	newest  time.Time // newest signed time seen
	buckets [parts]bucket
}

// bucket is the greatest difference in a slice of the window.
type bucket struct {
	began time.Time
	count int
	most  time.Duration
}

// Observe tells of an authentic delivery: when it says that it was sent (by their clock), and when it came (by ours). It says whether
// that counted.
func (s *Source) Observe(sent, came time.Time) bool {
	difference := sent.Sub(came)
	if sent.IsZero() || difference.Abs() > MaxConsidered || !sent.After(s.newest) {
		return false
	}
	s.newest = sent
	began := came.Truncate(slice)
	b := &s.buckets[int(began.Unix()/int64(slice/time.Second))%parts]
	if !b.began.Equal(began) {
		*b = bucket{began: began, most: difference}
	}
	b.count++
	b.most = max(b.most, difference)
	return true
}

// Estimate is how far the source's clock is before ours (negative: behind), and whether enough is known. The last minutes count
// alone if they say enough, so that a clock that was set is noticed soon.
func (s *Source) Estimate(now time.Time) (offset time.Duration, known bool) {
	if offset, known = s.most(now, recent); known {
		return offset, true
	}
	return s.most(now, Window)
}

// most is the greatest difference of a while.
func (s *Source) most(now time.Time, while time.Duration) (offset time.Duration, enough bool) {
	count := 0
	for _, b := range s.buckets {
		if b.count == 0 || now.Sub(b.began) > while || b.began.Sub(now) > Window {
			continue
		}
		if count == 0 || b.most > offset {
			offset = b.most
		}
		count += b.count
	}
	return offset, count >= MinSamples
}

// Vote is one source's estimate. Sources of one group share a clock, and have one voice.
type Vote struct {
	Group  string
	Offset time.Duration
}

// Verdict says whose clock is wrong.
type Verdict struct {
	// Ours is true if most of the others agree that it is ours.
	Ours bool
	// Offset is how far they are before our clock, if Ours: what has to be added to our time.
	Offset time.Duration
	// Groups are how many had a voice, Agreeing how many of them say the same.
	Groups, Agreeing int
}

// Judge decides by votes. One group alone proves nothing: its own clock may be the wrong one.
func Judge(votes []Vote) Verdict {
	grouped := map[string][]time.Duration{}
	for _, v := range votes {
		grouped[v.Group] = append(grouped[v.Group], v.Offset)
	}
	voices := make([]time.Duration, 0, len(grouped))
	for _, offsets := range grouped {
		voices = append(voices, median(offsets))
	}
	out := Verdict{Groups: len(voices)}
	if len(voices) < 2 {
		return out
	}
	middle := median(voices)
	for _, v := range voices {
		if (v - middle).Abs() <= Agreement {
			out.Agreeing++
		}
	}
	// Two thirds; of two both.
	if 3*out.Agreeing >= 2*out.Groups && out.Agreeing >= 2 && middle.Abs() >= Notable {
		out.Ours, out.Offset = true, middle
	}
	return out
}

// median is the lower one of two.
func median(values []time.Duration) time.Duration {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

// Correction is what to add to our time: the verdict's offset, at most so much in either direction.
func (v Verdict) Correction(most time.Duration) time.Duration {
	if !v.Ours {
		return 0
	}
	return min(max(v.Offset, -most), most)
}

// Describe says in words whose clock is wrong; empty: nobody's, as far as is known.
func (v Verdict) Describe() string {
	if !v.Ours {
		return ""
	}
	where := "behind"
	if v.Offset < 0 {
		where = "ahead"
	}
	return strings.Join([]string{"our clock is", v.Offset.Abs().Round(time.Second).String(), where}, " ")
}
