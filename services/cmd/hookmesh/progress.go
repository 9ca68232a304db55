package main

import (
	"fmt"
	"io"
	"time"

	"github.com/hookmesh/hookmesh/services/wiring"
)

// progressEvery is how often a move says how far it is.
const progressEvery = 5 * time.Second

// progress prints how far a move is: each step that counts no rows, and every few seconds how many rows of the present one are done.
type progress struct {
	w   io.Writer
	now func() time.Time
	// doing is the present step; began is its beginning.
	doing                string
	began, seen, printed time.Time
}

func newProgress(w io.Writer, now func() time.Time) *progress {
	return &progress{w: w, now: now, seen: now(), printed: now()}
}

func (p *progress) report(at wiring.Progress) {
	now := p.now()
	if at.Doing != p.doing {
		p.doing, p.began = at.Doing, p.seen // the first rows of a step are reported when they are done
		if at.Done == 0 {
			p.began = now
			p.print(now, "%s\n", at.Doing)
		}
	}
	p.seen = now
	if now.Sub(p.printed) < progressEvery || at.Done == 0 {
		return
	}
	rate := float64(at.Done) / max(now.Sub(p.began).Seconds(), 0.001)
	if at.Total == 0 {
		p.print(now, "%s: %d rows, %.0f/s\n", at.Doing, at.Done, rate)
		return
	}
	left := time.Duration(float64(at.Total-at.Done) / rate * float64(time.Second)).Round(time.Second)
	p.print(now, "%s: %d of %d rows, %.0f/s, %s left\n", at.Doing, at.Done, at.Total, rate, left)
}

func (p *progress) print(now time.Time, format string, args ...any) {
	p.printed = now
	_, _ = fmt.Fprintf(p.w, format, args...) // a terminal that is gone does not end the move
}
