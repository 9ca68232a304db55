package embedder

import (
	"slices"
	"sync"
	"time"
)

const (
	firstBreak   = 10 * time.Second
	longestBreak = 10 * time.Minute
)

// breakers keep the documents of a source waiting while it refuses us: thousands of dead letters would help nobody. When the
// break is over, the next documents probe, as many as there are workers: a success closes the breaker, a failure doubles the break.
type breakers struct {
	mu     sync.Mutex
	states map[string]*breaker
}

type breaker struct {
	until time.Time
	pause time.Duration
}

func newBreakers() *breakers { return &breakers{states: map[string]*breaker{}} }

// open lists the sources whose documents wait now.
func (b *breakers) open(now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name, st := range b.states {
		if now.Before(st.until) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// failed opens a source's breaker, or prolongs it, and returns until when.
func (b *breakers) failed(name string, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.states[name]
	if st == nil {
		st = &breaker{pause: firstBreak / 2}
		b.states[name] = st
	}
	st.pause = min(2*st.pause, longestBreak)
	st.until = now.Add(st.pause)
	return st.until
}

// succeeded closes it.
func (b *breakers) succeeded(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.states, name)
}
