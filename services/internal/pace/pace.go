// Package pace lets work in the background give way to requests. In one process both share processors and disk; a burst of
// webhooks must be answered first, because the log keeps the work and nothing keeps a sender.
package pace

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// busyAt is how many requests at once make the process busy. Fewer are answered at full speed anyway.
	busyAt = 8
	// restFactor is how long background work rests for what it worked: all of it together keeps a twentieth of the time.
	restFactor = 19
	// longestRest bounds one rest: work that waited for something else may have taken long without taking anything away.
	longestRest = 10 * time.Second
	// spacing bounds what is left of a rest when the burst is over: workers that rested begin one after the other, so that those
	// of a new burst do not meet all of them at work.
	spacing = 100 * time.Millisecond
	// look is how often a resting worker looks whether the burst is over.
	look = 5 * time.Millisecond
	// linger is how long a burst is believed to go on: a group commit answers everybody at once, and the next requests come
	// right afterwards.
	linger = 50 * time.Millisecond
)

// Pacer counts requests in work. The zero value is ready; a nil Pacer is never busy.
type Pacer struct {
	inFlight atomic.Int64
	// burst is when there were last so many requests, in nanoseconds.
	burst atomic.Int64
	// resting is held by the worker whose rest is running: rests follow each other, so that many workers together take no
	// more than one.
	resting sync.Mutex
}

// Handler counts those requests of a handler that count is true for. Requests that wait for what the background does (a client that
// asks until its page is there) must not be among them: the more of them wait, the longer they would.
func (p *Pacer) Handler(next http.Handler, count func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !count(r) {
			next.ServeHTTP(w, r)
			return
		}
		if p.inFlight.Add(1) >= busyAt {
			p.burst.Store(time.Now().UnixNano())
		}
		defer p.inFlight.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// Busy says whether requests are waiting for the machine, or did a moment ago.
func (p *Pacer) Busy() bool {
	return p != nil && (p.inFlight.Load() >= busyAt || time.Since(time.Unix(0, p.burst.Load())) < linger)
}

// Rest waits in proportion to the time that a piece of background work took, as long as the process is busy and ctx lasts.
func (p *Pacer) Rest(ctx context.Context, took time.Duration) {
	if !p.Busy() {
		return
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	wait := func() bool {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			return true
		}
	}
	for !p.resting.TryLock() {
		if !wait() {
			return
		}
	}
	defer p.resting.Unlock()
	// Only time that was seen to pass counts: after a pause of the whole process, everybody's rest would be over at once.
	last, rested := time.Now(), time.Duration(0)
	for rested < p.due(took) && wait() {
		now := time.Now()
		rested += min(now.Sub(last), 2*look)
		last = now
	}
}

// due is how long to rest now for work that took so long.
func (p *Pacer) due(took time.Duration) time.Duration {
	if p.Busy() {
		return min(restFactor*took, longestRest)
	}
	return min(took, spacing)
}
