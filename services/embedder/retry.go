package embedder

import "time"

// Policy says how a source's failures that may pass are tried again.
type Policy struct {
	// Tries is how often a change is tried before it is given up.
	Tries int
	// First and Longest bound the pauses.
	First, Longest time.Duration
}

// Delay is how long to wait after so many failures (1 at first): anything up to a bound that doubles each time, so that what
// failed together does not come back together (full jitter). after is how long the endpoint asks to be left alone: it is waited
// for in full, and the jitter, up to a tenth of it at least, comes on top. jitter draws a duration from 0 up to its argument.
func (p Policy) Delay(failures int, after time.Duration, jitter func(time.Duration) time.Duration) time.Duration {
	bound := p.Longest
	if shift := max(0, failures-1); shift < 40 && p.First<<shift>>shift == p.First {
		bound = min(bound, p.First<<shift)
	}
	if after > 0 {
		bound = max(min(bound, after), after/10)
	}
	return after + jitter(bound)
}
