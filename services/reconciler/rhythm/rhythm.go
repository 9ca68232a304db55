// Package rhythm learns how a source's webhooks come over the week, and says when their silence is none of its habits. It is values
// and arithmetic; nothing in it waits or stores.
package rhythm

import (
	"math"
	"time"
)

const (
	week  = 7 * 24 * time.Hour
	hours = 168
	// memory is over how many weeks an hour's average is taken at the most.
	memory = 8
	// rateHalfLife is how fast the average over all hours follows.
	rateHalfLife = 48 // hours
	// surpriseHalfLife is how fast the largest surprise is forgotten.
	surpriseHalfLife = week
	// threshold is how many webhooks must be missing at least. That none of sixteen comes by chance happens once in nine million gaps.
	threshold = 16
	// margin is by how much a silence must surprise more than any before.
	margin = 2
	// enough webhooks and time must have been seen before silence means anything; people are told only after a whole week was.
	enough     = 30
	youngest   = 24 * time.Hour
	wholeWeek  = week + 24*time.Hour
	knownWeeks = 2
)

// Rhythm is what is known of a source. The zero value knows nothing.
type Rhythm struct {
	// Since is when it was heard first, Last when last.
	Since time.Time `json:"since,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Seen counts webhooks.
	Seen int64 `json:"seen,omitempty"`
	// Mean is the number of webhooks in an hour of the week (hour 0 begins on Monday at 00:00 UTC), over Weeks weeks.
	Mean  [hours]float64 `json:"mean"`
	Weeks [hours]int     `json:"weeks"`
	// Rate is the number in an hour over all, by how long it was looked.
	Rate   float64 `json:"rate,omitempty"`
	Looked int     `json:"looked,omitempty"`
	// Hour is the one that is being counted, Count what has come in it.
	Hour  time.Time `json:"hour,omitzero"`
	Count float64   `json:"count,omitempty"`
	// Surprise is how many webhooks were expected during the most surprising silence so far; it fades.
	Surprise float64 `json:"surprise,omitempty"`
}

// Hear takes in n webhooks that came until now.
func (r Rhythm) Hear(n int64, now time.Time) Rhythm {
	now = now.UTC()
	if r.Since.IsZero() {
		r.Since, r.Hour = now, now.Truncate(time.Hour)
	}
	if !r.Last.IsZero() && now.After(r.Last) {
		gap := r.Expected(r.Last, now)
		r.Surprise = max(gap, r.Surprise*math.Exp2(-float64(now.Sub(r.Last))/float64(surpriseHalfLife)))
	}
	r = r.close(now)
	r.Count += float64(n)
	r.Seen += n
	if now.After(r.Last) {
		r.Last = now
	}
	return r
}

// close ends the hours before now; those in which nothing came count as well.
func (r Rhythm) close(now time.Time) Rhythm {
	if now.Sub(r.Hour) > memory*week { // so long ago that what was known is of no use
		return Rhythm{Since: now, Hour: now.Truncate(time.Hour), Last: r.Last}
	}
	for ; !now.Before(r.Hour.Add(time.Hour)); r.Hour = r.Hour.Add(time.Hour) {
		h := hourOfWeek(r.Hour)
		r.Weeks[h] = min(r.Weeks[h]+1, memory)
		r.Mean[h] += (r.Count - r.Mean[h]) / float64(r.Weeks[h])
		r.Looked++
		r.Rate += (r.Count - r.Rate) * max(1/float64(r.Looked), 1-math.Exp2(-1.0/rateHalfLife))
		r.Count = 0
	}
	return r
}

// hourOfWeek is 0 from Monday at 00:00 UTC on: 1970 began on a Thursday.
func hourOfWeek(t time.Time) int {
	return int((t.Unix()/3600 + 3*24) % hours)
}

// Expected is how many webhooks usually come between two times.
func (r Rhythm) Expected(from, to time.Time) float64 {
	sum := 0.0
	if to.Sub(from) > 4*week {
		from = to.Add(-4 * week)
	}
	for at := from.UTC(); at.Before(to); {
		next := at.Truncate(time.Hour).Add(time.Hour)
		if next.After(to) {
			next = to
		}
		rate := r.Rate
		switch h := hourOfWeek(at); {
		case r.Weeks[h] >= knownWeeks:
			rate = r.Mean[h]
		case r.Weeks[h] > 0:
			rate = min(rate, r.Mean[h])
		}
		sum += rate * next.Sub(at).Hours()
		at = next
	}
	return sum
}

// Verdict says what a silence means.
type Verdict int

// The verdicts.
const (
	// Normal: nothing unusual, or too little is known.
	Normal Verdict = iota
	// Suspect: unusual enough to ask the source.
	Suspect
	// Silent: unusual enough to tell people.
	Silent
)

// Judge says what it means that nothing was heard since Last, and how many webhooks were to be expected.
func (r Rhythm) Judge(now time.Time) (Verdict, float64) {
	if r.Last.IsZero() || !now.After(r.Last) {
		return Normal, 0
	}
	expected := r.Expected(r.Last, now)
	switch age := r.Last.Sub(r.Since); {
	case r.Seen < enough || age < youngest || expected < max(threshold, margin*r.Surprise):
		return Normal, expected
	case age < wholeWeek:
		return Suspect, expected
	}
	return Silent, expected
}
