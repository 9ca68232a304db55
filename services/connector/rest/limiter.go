package rest

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hookmesh/hookmesh/services/connector"
)

// patience is how long a request waits for its turn. Longer pauses are the caller's business: it has a schedule, and the
// worker has other sources.
const patience = 5 * time.Second

// Limiter keeps all requests with one credential to the source's limits: a rate of our own, and the pauses that the source
// asks for. Safe for concurrent use.
type Limiter struct {
	bucket *rate.Limiter
	now    func() time.Time

	mu     sync.Mutex
	paused time.Time
}

// NewLimiter allows so many requests per second, and as many at once; 0: any.
func NewLimiter(perSecond float64) *Limiter {
	l := &Limiter{now: time.Now, bucket: rate.NewLimiter(rate.Inf, 0)}
	if perSecond > 0 {
		l.bucket = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
	}
	return l
}

// Wait returns when it is the caller's turn. If that takes longer than a few seconds it returns an *Error that says how long.
func (l *Limiter) Wait(ctx context.Context) error {
	r := l.bucket.Reserve()
	l.mu.Lock()
	wait := max(r.Delay(), l.paused.Sub(l.now()))
	l.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	if wait > patience {
		r.Cancel()
		return &connector.Error{RetryAfter: wait, Err: errors.New("waiting for the source's rate limit")}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		r.Cancel()
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Observe learns from an answer.
func (l *Limiter) Observe(status int, h http.Header) {
	now := l.now()
	d := Pause(status, h, now)
	if d <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := now.Add(d); until.After(l.paused) {
		l.paused = until
	}
}

// Limiters hold one limiter per credential of a process, so that fetches and polls share it. The zero value is ready.
type Limiters struct {
	mu    sync.Mutex
	known map[[32]byte]*Limiter
}

// For returns the limiter of a credential at a host. Of several rates asked for, the first counts.
func (l *Limiters) For(host, credential string, perSecond float64) *Limiter {
	if l == nil {
		return NewLimiter(perSecond)
	}
	key := sha256.Sum256([]byte(host + "\x00" + credential))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[[32]byte]*Limiter{}
	}
	if l.known[key] == nil {
		l.known[key] = NewLimiter(perSecond)
	}
	return l.known[key]
}
