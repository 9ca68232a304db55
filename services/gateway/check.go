package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	otelcodes "go.opentelemetry.io/otel/codes"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

const (
	maxCheckBatch = 4096 // the contract's bound
	// crowdPatience is how long a delivery waits for dedupe in a crowd, at most.
	crowdPatience = 20 * time.Millisecond
	// checkRest is for how long dedupe is not asked after it was too slow.
	checkRest = time.Second
)

// checks says whether dedupe is asked at the moment. The zero value asks.
type checks struct {
	until   atomic.Int64 // when the rest ends, in nanoseconds; 0: dedupe answers in time
	probing atomic.Bool  // one asks, and finds out for the others whether it does so again
}

// ask says whether to ask dedupe now. Who does so says by done how that went.
func (c *checks) ask(now time.Time) (done func(now time.Time, answered bool), asks bool) {
	until := c.until.Load()
	left := time.Duration(until - now.UnixNano())
	switch {
	case until == 0:
		return func(time.Time, bool) {}, true
	case left > 0 && left <= checkRest || !c.probing.CompareAndSwap(false, true): // more is left only if the clock was put back
		return nil, false
	}
	return func(now time.Time, answered bool) {
		if answered {
			c.until.Store(0)
		} else {
			c.rest(now)
		}
		c.probing.Store(false)
	}, true
}

// rest begins a time in which dedupe is not asked.
func (c *checks) rest(now time.Time) { c.until.Store(now.Add(checkRest).UnixNano()) }

// checkPatience is how long a delivery waits now for dedupe's answer, its turn included. In a crowd nobody waits long: dedupe and its database
// may be slow because they lack what those that wait take.
func (s *Service) checkPatience() time.Duration {
	if !s.crowded() {
		return s.cfg.CheckTimeout
	}
	return min(s.cfg.CheckTimeout, crowdPatience)
}

// duplicates asks dedupe which events were processed before: for each the id of the first, or "". If dedupe does not answer in good time,
// none was: the verdict that counts falls when the event is consumed, and a sender must not wait for one that saves a write.
func (s *Service) duplicates(ctx context.Context, events []*eventv1.Event) []string {
	none := make([]string, len(events))
	if len(events) == 0 || len(events) > maxCheckBatch {
		s.meters.unchecked(ctx, len(events))
		return none
	}
	done, asks := s.checks.ask(s.now())
	if !asks {
		s.meters.unchecked(ctx, len(events))
		return none
	}
	answered := false
	defer func() { done(s.now(), answered) }()
	ctx, span := s.startSpan(ctx, "dedupe check")
	defer span.End()
	identities := make([]*eventv1.Event, len(events))
	for i, e := range events {
		identities[i] = identity(e)
	}
	ctx, cancel := context.WithTimeout(ctx, s.checkPatience())
	defer cancel()
	of, err := s.checking.Do(ctx, identities)
	if answered = err == nil; !answered {
		s.meters.unchecked(ctx, len(events))
		span.RecordError(err)
		span.SetStatus(otelcodes.Error, "dedupe did not answer; the event goes on")
		return none
	}
	return of
}

// identity is what dedupe needs to know an event again.
func identity(e *eventv1.Event) *eventv1.Event {
	return &eventv1.Event{
		Id: e.GetId(), Source: e.GetSource(), DocumentId: e.GetDocumentId(), Action: e.GetAction(), IdempotencyKey: e.GetIdempotencyKey(),
		ContentHash: e.GetContentHash(), Ordering: e.GetOrdering(), Sequence: e.Sequence, Version: e.GetVersion(), //nolint:protogetter // presence matters
		OccurredAt: e.GetOccurredAt(), ReceivedAt: e.GetReceivedAt(), Origin: e.GetOrigin(), DedupeTtlSeconds: e.GetDedupeTtlSeconds(),
	}
}

// checkBatch asks for several deliveries at once.
func (s *Service) checkBatch(ctx context.Context, questions [][]*eventv1.Event) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.checkPatience())
	defer cancel()
	var all []*eventv1.Event
	for _, q := range questions {
		all = append(all, q...)
	}
	res, err := s.deps.Dedupe.Check(ctx, &dedupev1.CheckRequest{Events: all})
	if err != nil {
		if ctx.Err() != nil {
			s.checks.rest(s.now())
		}
		return nil, err
	}
	of := res.GetDuplicateOf()
	if len(of) != len(all) {
		return nil, fmt.Errorf("dedupe answered %d of %d events", len(of), len(all))
	}
	out := make([][]string, len(questions))
	for i, q := range questions {
		out[i], of = of[:len(q):len(q)], of[len(q):]
	}
	return out, nil
}
