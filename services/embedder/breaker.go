package embedder

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
)

// modelEndpoint is the name of the embedding model's breaker. No source can have it: their names hold no space.
const modelEndpoint = "embedding model"

// verdict is what a job learned about an endpoint.
type verdict int

const (
	unknown verdict = iota // it was not asked, or its answer says nothing about it
	healthy
	failing // it did not answer, or answered that it cannot now
	refused // it refuses our credentials
)

// BreakerConfig says when an endpoint is left alone.
type BreakerConfig struct {
	// Failures in a row open the breaker; refused credentials open it at once.
	Failures int
	// First and Longest bound the pauses; they double while the endpoint fails.
	First, Longest time.Duration
}

// breaker guards one endpoint. Closed, it lets everything pass. Open, it lets nothing pass until a pause is over. Then it probes
// with one job; each success doubles how many may be under way, and when that is as many as there are workers it is closed again:
// an endpoint that comes back is not met by a herd.
type breaker struct {
	open     bool      // false: closed
	until    time.Time // no job passes before
	since    time.Time // when it opened
	pause    time.Duration
	failures int // in a row, while closed
	slots    int // jobs that may be under way at once after the pause
	busy     int // jobs under way
	cause    string
}

// admits says whether one more job may pass.
func (b *breaker) admits(now time.Time) bool {
	return !b.open || (!now.Before(b.until) && b.busy < b.slots)
}

// learn takes a verdict in. changed: the breaker has opened or closed by it.
func (b *breaker) learn(v verdict, cfg BreakerConfig, width int, after time.Duration, cause string, now time.Time) (changed bool) {
	switch {
	case v == unknown:
		return false
	case v == healthy && !b.open:
		b.failures = 0
		return false
	case v == healthy && now.Before(b.until): // it was under way before the breaker opened
		return false
	case v == healthy:
		if b.slots *= 2; b.slots <= width {
			return false
		}
		*b = breaker{busy: b.busy}
		return true
	case !b.open:
		b.failures++
		if v == failing && b.failures < cfg.Failures {
			return false
		}
		b.open, b.since, b.pause = true, now, cfg.First
		b.trip(after, cause, now)
		return true
	case now.Before(b.until):
		return false
	}
	// A failure after the pause. One of several is a document's own trouble perhaps; that of the probe is not.
	if b.slots /= 2; b.slots < 1 || v == refused {
		b.pause = min(2*b.pause, cfg.Longest)
		b.trip(after, cause, now)
	}
	return false
}

func (b *breaker) trip(after time.Duration, cause string, now time.Time) {
	b.until, b.slots, b.cause = now.Add(max(b.pause, after)), 1, cause
}

// breakers are those of all endpoints. They live in memory: after a restart the first jobs find out again.
type breakers struct {
	cfg   BreakerConfig
	width int // how many jobs may be under way when all is well

	mu  sync.Mutex
	all map[string]*breaker
}

func newBreakers(cfg BreakerConfig, width int) *breakers {
	return &breakers{cfg: cfg, width: width, all: map[string]*breaker{}}
}

func (b *breakers) of(endpoint string) *breaker {
	st := b.all[endpoint]
	if st == nil {
		st = &breaker{}
		b.all[endpoint] = st
	}
	return st
}

// blocked lists the sources whose jobs may not be taken now; all: no job may be, because the model is left alone.
func (b *breakers) blocked(now time.Time) (sources []string, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, st := range b.all {
		if st.admits(now) {
			continue
		}
		if name == modelEndpoint {
			return nil, true
		}
		sources = append(sources, name)
	}
	slices.Sort(sources)
	return sources, false
}

// enter counts a job that was taken.
func (b *breakers) enter(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(source).busy++
	b.of(modelEndpoint).busy++
}

// transition is a breaker that has opened or closed.
type transition struct {
	endpoint string
	open     bool
	until    time.Time
	// lasted is how long it was open, if it has closed.
	lasted time.Duration
}

// leave takes in what a job that ends has learned. wait is until when the job has to wait for the endpoint that failed it;
// zero: the failure is the job's own.
func (b *breakers) leave(source string, v *visit, now time.Time) (wait time.Time, changes []transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range []struct {
		name string
		verdict
	}{{source, v.source}, {modelEndpoint, v.model}} {
		st := b.of(e.name)
		st.busy--
		since := st.since
		if st.learn(e.verdict, b.cfg, b.width, v.after, v.cause, now) {
			changes = append(changes, transition{e.name, st.open, st.until, now.Sub(since)})
		}
		if st.open && (e.verdict == failing || e.verdict == refused) {
			wait = st.until
			if !wait.After(now) {
				wait = now.Add(st.pause)
			}
		}
	}
	return wait, changes
}

// settle closes the breakers whose probes succeeded when nothing is left to probe with: nothing is due, and nothing of theirs is
// under way. A source with one waiting document would else stay half open, and what it missed would not be fetched, until its next
// document came.
func (b *breakers) settle(now time.Time) (changes []transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, st := range b.all {
		if st.open && st.slots > 1 && st.busy == 0 && !now.Before(st.until) {
			changes = append(changes, transition{endpoint: name, lasted: now.Sub(st.since)})
			*st = breaker{}
		}
	}
	return changes
}

// open lists the endpoints that are left alone or probed, by name.
func (b *breakers) open() []*embedderv1.BreakerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*embedderv1.BreakerStatus
	for name, st := range b.all {
		if st.open {
			out = append(out, &embedderv1.BreakerStatus{Endpoint: name, Model: name == modelEndpoint, OpenedAt: timestamppb.New(st.since), ProbeAt: timestamppb.New(st.until), Cause: st.cause})
		}
	}
	slices.SortFunc(out, func(a, b *embedderv1.BreakerStatus) int { return strings.Compare(a.GetEndpoint(), b.GetEndpoint()) })
	return out
}

// visit is what a job learns about the endpoints that it asks.
type visit struct {
	source, model verdict
	// after is how long the endpoint that failed asks to be left alone.
	after time.Duration
	cause string
}

// fetched notes what a fetch says about the source. That a document is gone, or cannot be taken, is an answer of a healthy one.
func (v *visit) fetched(err error) {
	var e *connector.Error
	switch {
	case errors.Is(err, context.Canceled):
	case errors.Is(err, connector.ErrUnauthorized):
		v.source, v.cause, v.after = refused, err.Error(), connector.RetryAfter(err)
	case err == nil, errors.Is(err, connector.ErrGone), errors.Is(err, connector.ErrTooLarge), errors.As(err, &e) && e.Permanent:
		v.source = healthy
	default:
		v.source, v.cause, v.after = failing, err.Error(), connector.RetryAfter(err)
	}
}

// embedded notes what an embedding says about the model.
func (v *visit) embedded(err error) {
	e, ok := embedding.AsError(err)
	switch {
	case err == nil:
		v.model = healthy
	case errors.Is(err, context.Canceled) || !ok || e.Permanent && !e.Unauthorized: // it says nothing about others
	case e.Unauthorized:
		v.model, v.cause, v.after = refused, err.Error(), e.RetryAfter
	default:
		v.model, v.cause, v.after = failing, err.Error(), e.RetryAfter
	}
}
