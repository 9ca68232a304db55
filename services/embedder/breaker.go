package embedder

import (
	"context"
	"errors"
	"maps"
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
	// Failures in a row, of more than one document unless it is 1, open the breaker; refused credentials open it at once.
	Failures int
	// First and Longest bound the pauses; they double while the endpoint fails.
	First, Longest time.Duration
}

// breaker guards one endpoint. Closed, it lets everything pass. Open, it lets nothing pass until a pause is over. Then it probes
// with one job; each success doubles how many may be under way, and when that is as many as there are workers it is closed again:
// an endpoint that comes back is not met by a herd.
//
// That a document fails proves nothing about its endpoint if it is the only one, or if others succeed meanwhile. Such a failure is
// the document's own: it uses up a try and keeps nobody waiting.
type breaker struct {
	open     bool      // false: closed
	until    time.Time // no job passes before
	since    time.Time // when it opened
	pause    time.Duration
	failures int // in a row, while closed
	slots    int // jobs that may be under way at once after the pause
	busy     int // jobs under way
	cause    string
	// failed are the documents of the failures in a row while it is closed, or of those since it opened.
	failed map[string]struct{}
	// suspects are documents that failed before others succeeded, and have not succeeded since.
	suspects map[string]struct{}
	// lone is the document that failed last while it is open.
	lone string
}

// maxSuspects bounds what is remembered of documents that fail.
const maxSuspects = 256

// own says whether a failure is the document's and not the endpoint's. Of refused credentials, one document that waits alone is no proof.
func (b *breaker) own(v verdict, document string) bool {
	if _, suspect := b.suspects[document]; suspect {
		return true
	}
	return b.open && v == failing && b.lone == document
}

// suspect remembers a document that failed.
func (b *breaker) suspect(document string) {
	if b.failed == nil {
		b.failed = map[string]struct{}{}
	}
	if len(b.failed) < maxSuspects {
		b.failed[document] = struct{}{}
	}
	b.lone = document
}

// clear takes a document's success in: those that failed before it are suspects, and it is none.
func (b *breaker) clear(document string) {
	if len(b.failed) > 0 {
		if len(b.suspects)+len(b.failed) > maxSuspects {
			b.suspects = nil
		}
		if b.suspects == nil {
			b.suspects = map[string]struct{}{}
		}
		maps.Copy(b.suspects, b.failed)
		b.failed = nil
	}
	delete(b.suspects, document)
	b.lone = ""
}

// close closes it. Who is under way, and who is suspect, stays so.
func (b *breaker) close() { *b = breaker{busy: b.busy, suspects: b.suspects} }

// admits says whether one more job may pass.
func (b *breaker) admits(now time.Time) bool {
	return !b.open || (!now.Before(b.until) && b.busy < b.slots)
}

// learn takes in what a document has learned; it is not the document's own failure. changed: the breaker has opened or closed by it.
func (b *breaker) learn(v verdict, document string, cfg BreakerConfig, width int, after time.Duration, cause string, now time.Time) (changed bool) {
	switch {
	case v == unknown:
		return false
	case v == healthy && !b.open:
		b.failures = 0
		b.clear(document)
		return false
	case v == healthy && now.Before(b.until): // it was under way before the breaker opened
		return false
	case v == healthy:
		b.clear(document)
		if b.slots *= 2; b.slots <= width {
			return false
		}
		b.close()
		return true
	case !b.open:
		b.failures++
		b.suspect(document)
		if v == failing && (b.failures < cfg.Failures || len(b.failed) < min(2, cfg.Failures)) {
			return false
		}
		b.open, b.since, b.pause = true, now, cfg.First
		b.trip(after, cause, now)
		return true
	case now.Before(b.until):
		return false
	}
	// A failure after the pause. One of several is a document's own trouble perhaps; that of the probe is not.
	b.suspect(document)
	if b.slots /= 2; b.slots < 1 || v == refused {
		b.pause = min(2*b.pause, cfg.Longest)
		b.trip(after, cause, now)
	}
	return false
}

func (b *breaker) trip(after time.Duration, cause string, now time.Time) {
	b.until, b.slots, b.cause = now.Add(max(b.pause, after)), 1, cause
}

// breakers are those of all endpoints. What is open is kept in the store, so that a restart is no reason to meet an endpoint that is
// away with everything that waits, and so that several embedders leave it alone together.
type breakers struct {
	cfg   BreakerConfig
	width int // how many jobs may be under way when all is well

	mu  sync.Mutex
	all map[string]*breaker
	// touched: some breaker has opened, closed or failed again since the store was told.
	touched bool
	// kept is what the store holds, by endpoint.
	kept map[string]keptBreaker
}

// keptBreaker is an open breaker as it is kept.
type keptBreaker struct {
	Until time.Time     `json:"until"`
	Since time.Time     `json:"since"`
	Pause time.Duration `json:"pause"`
	Cause string        `json:"cause"`
}

// outdated is how long after its next probe was due a kept breaker says nothing any more.
const outdated = 24 * time.Hour

// share takes in what the store holds: what was open before a restart, and what other embedders have found since. An endpoint is left
// alone by all, until the latest time that any of them says, and each then probes with one job; one whose breaker closes closes those
// of all, so that who has no job for it does not wait for one. closed are those that closed so.
func (b *breakers) share(kept map[string]keptBreaker, now time.Time) (closed []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for endpoint, k := range kept {
		old, held := b.kept[endpoint]
		b.kept[endpoint] = k
		st := b.of(endpoint)
		if (held && old.Until.Equal(k.Until)) || now.Sub(k.Until) > outdated || (st.open && !k.Until.After(st.until)) {
			b.touched = b.touched || !st.open || !k.Until.Equal(st.until)
			continue
		}
		if !st.open {
			st.since = k.Since
		}
		st.open, st.until, st.pause, st.cause, st.slots = true, k.Until, min(max(k.Pause, b.cfg.First), b.cfg.Longest), k.Cause, 1
	}
	for endpoint, old := range b.kept {
		if _, still := kept[endpoint]; still {
			continue
		}
		delete(b.kept, endpoint)
		if st := b.of(endpoint); st.open && st.until.Equal(old.Until) {
			st.close()
			closed = append(closed, endpoint)
		}
	}
	slices.Sort(closed)
	return closed
}

// unkept returns what has to be kept (nil: no longer) for the store to hold what is.
func (b *breakers) unkept() map[string]*keptBreaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out map[string]*keptBreaker
	put := func(endpoint string, k *keptBreaker) {
		if out == nil {
			out = map[string]*keptBreaker{}
		}
		out[endpoint] = k
	}
	for endpoint, st := range b.all {
		k := keptBreaker{st.until, st.since, st.pause, st.cause}
		switch old, held := b.kept[endpoint]; {
		case st.open && (!held || !old.Until.Equal(k.Until)):
			put(endpoint, &k)
		case !st.open && held:
			put(endpoint, nil)
		}
	}
	return out
}

// touch says whether the store may hold something else than what is, and that this is seen to from now on.
func (b *breakers) touch(again bool) (was bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, b.touched = b.touched, again
	return was
}

// keeps notes what the store holds of an endpoint now.
func (b *breakers) keeps(endpoint string, k *keptBreaker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k == nil {
		delete(b.kept, endpoint)
		return
	}
	b.kept[endpoint] = *k
}

func newBreakers(cfg BreakerConfig, width int) *breakers {
	return &breakers{cfg: cfg, width: width, all: map[string]*breaker{}, kept: map[string]keptBreaker{}}
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

// leave takes in what the job of a document has learned that ends. wait is until when the job has to wait for the endpoint that
// failed it; zero: the failure is the job's own.
func (b *breakers) leave(source, document string, v *visit, now time.Time) (wait time.Time, changes []transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range []struct {
		name string
		verdict
	}{{source, v.source}, {modelEndpoint, v.model}} {
		st := b.of(e.name)
		st.busy--
		// Documents of different sources share the model.
		name := source + "/" + document
		if (e.verdict == failing || e.verdict == refused) && st.own(e.verdict, name) {
			continue
		}
		since, until := st.since, st.until
		if st.learn(e.verdict, name, b.cfg, b.width, v.after, v.cause, now) {
			changes = append(changes, transition{e.name, st.open, st.until, now.Sub(since)})
		}
		b.touched = b.touched || !st.until.Equal(until)
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
			st.close()
			b.touched = true
		}
	}
	slices.SortFunc(changes, func(a, b transition) int { return strings.Compare(a.endpoint, b.endpoint) })
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
	var elsewhere *connector.ElsewhereError
	switch {
	case errors.Is(err, context.Canceled):
	case errors.Is(err, connector.ErrUnauthorized):
		v.source, v.cause, v.after = refused, err.Error(), connector.RetryAfter(err)
	case err == nil, errors.As(err, &elsewhere), errors.Is(err, connector.ErrGone), errors.Is(err, connector.ErrTooLarge), errors.As(err, &e) && e.Permanent:
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
