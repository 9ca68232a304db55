// Package limit decides how many requests may be in work at once, by how long they take: additive increase, multiplicative
// decrease, as TCP does for its window (RFC 5681). While requests end within the target, the limit rises as far as it is used; when
// they take longer on average, more of them at once only make everybody wait, and it falls. What is over it is refused at once
// instead of being answered too late. Everything here is a function of values: time and latencies come from outside.
package limit

import "time"

// Config bounds a limit.
type Config struct {
	// Min is never refused.
	Min int
	// Max is where the limit starts and what it never exceeds.
	Max int
	// Target is the average time that a request may take.
	Target time.Duration
}

const (
	// window is how long latencies are collected before the limit is changed.
	window = 100 * time.Millisecond
	// samples is how many latencies are the least that say something.
	samples = 10
	// gentlest and hardest bound how much of the limit one window leaves.
	gentlest, hardest = 0.9, 0.5
	// raise is the share of Max by which one window raises the limit.
	raise = 64
	// used is the share of the limit, in tenths, that must have been in work for the limit to rise: a limit that nobody reaches
	// proves nothing.
	used = 8
)

// Limit is the number of requests that may be in work. It is not for several goroutines at once.
type Limit struct {
	cfg   Config
	limit float64

	began time.Time
	sum   time.Duration
	count int
	peak  int
}

// New returns a limit. Max is raised to Min if it is less.
func New(cfg Config) *Limit {
	cfg.Min = max(cfg.Min, 1)
	cfg.Max = max(cfg.Max, cfg.Min)
	return &Limit{cfg: cfg, limit: float64(cfg.Max)}
}

// Current is how many requests may be in work now, between Min and Max.
func (l *Limit) Current() int { return int(l.limit) }

// Done tells that a request ended now, how long it took, and how many were in work together with it.
func (l *Limit) Done(now time.Time, took time.Duration, inWork int) {
	if l.count == 0 {
		l.began = now
	}
	l.sum += took
	l.count++
	l.peak = max(l.peak, inWork)
	if l.count < samples || now.Sub(l.began) < window {
		return
	}
	l.adapt(l.sum / time.Duration(l.count))
	l.sum, l.count, l.peak = 0, 0, 0
}

// adapt changes the limit after a window in which requests took mean on average.
func (l *Limit) adapt(mean time.Duration) {
	switch {
	case mean > l.cfg.Target:
		l.limit *= min(gentlest, max(hardest, float64(l.cfg.Target)/float64(mean)))
	case 10*l.peak >= used*l.Current():
		l.limit += max(1, float64(l.cfg.Max)/raise)
	}
	l.limit = min(float64(l.cfg.Max), max(float64(l.cfg.Min), l.limit))
}
