package config

import "time"

// Retry says how failures that may pass are tried again: with pauses of full jitter whose bound doubles.
type Retry struct {
	// Tries is how often a change is tried before it becomes a dead letter; 0: as embedder.tries says (3).
	Tries int `yaml:"tries"`
	// First bounds the pause after the first failure; 0: 1 s.
	First time.Duration `yaml:"first"`
	// Longest bounds every pause, except one that the source itself asks for with Retry-After; 0: 5 min.
	Longest time.Duration `yaml:"longest"`
}

// Breaker says when an endpoint (a source, the embedding model) is left alone. Meanwhile its documents wait and use up no tries.
type Breaker struct {
	// Failures in a row, of more than one document unless it is 1, open it; refused credentials open it at once. 0: 5.
	Failures int `yaml:"failures"`
	// First is the first pause; it doubles while the endpoint fails. 0: 10 s.
	First time.Duration `yaml:"first"`
	// Longest bounds the pauses; 0: 10 min.
	Longest time.Duration `yaml:"longest"`
}

func (r *Retry) complete(tries int) {
	if r.Tries == 0 {
		r.Tries = tries
	}
	if r.First == 0 {
		r.First = time.Second
	}
	if r.Longest == 0 {
		r.Longest = max(5*time.Minute, r.First)
	}
}

func (b *Breaker) complete() {
	if b.Failures == 0 {
		b.Failures = 5
	}
	if b.First == 0 {
		b.First = 10 * time.Second
	}
	if b.Longest == 0 {
		b.Longest = max(10*time.Minute, b.First)
	}
}

func (c *checker) retry(path string, r Retry) {
	c.atLeast(path+".tries", int64(r.Tries), 1)
	c.pauses(path, r.First, r.Longest)
}

func (c *checker) breaker(path string, b Breaker) {
	c.atLeast(path+".failures", int64(b.Failures), 1)
	c.pauses(path, b.First, b.Longest)
}

// pauses wants 1 ms at least: a shorter pause would turn a failure into a busy loop.
func (c *checker) pauses(path string, first, longest time.Duration) {
	if first < time.Millisecond {
		c.report(path+".first", "%s is less than 1ms", first)
	}
	if longest < first {
		c.report(path+".longest", "%s is less than first (%s)", longest, first)
	}
}
