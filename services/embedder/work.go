package embedder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	// lease is how long a job stays a worker's without a sign of life. After a crash its document waits that long.
	lease = 10 * time.Second
	// renewal is how often a worker gives one.
	renewal = 3 * time.Second
	// unwritten is how long a job waits whose dead letter could not be written.
	unwritten = 10 * time.Second
	// sharing is how often it is asked what other embedders have found out about endpoints.
	sharing = time.Second
	// conflicts is how often it is tried to store what was found while others store what they find.
	conflicts = 10
)

func (s *Service) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run works on jobs until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range max(1, s.cfg.Workers) {
		wg.Go(func() { s.work(ctx) })
	}
	wg.Wait()
	if err := s.extract.Close(); err != nil {
		return fmt.Errorf("close the PDF reader: %w", err)
	}
	return nil
}

// work is one worker: it takes what is due, and waits when nothing is.
func (s *Service) work(ctx context.Context) {
	for ctx.Err() == nil {
		now := s.deps.Now()
		worked, blocked, err := s.step(ctx, now)
		if err != nil && ctx.Err() == nil {
			s.deps.Telemetry.Logger.Error("taking a job failed", "error", err)
		}
		if !worked {
			s.sleep(ctx, now, blocked, err != nil)
		}
	}
}

// Step takes one job that is due and carries it out, whatever comes of it. false: none is due. Run does nothing else.
func (s *Service) Step(ctx context.Context) (worked bool, err error) {
	worked, _, err = s.step(ctx, s.deps.Now())
	return worked, err
}

// step is Step; blocked are the sources whose jobs may not be taken now.
func (s *Service) step(ctx context.Context, now time.Time) (worked bool, blocked []string, err error) {
	job, blocked, err := s.take(ctx, now)
	if err != nil {
		return false, blocked, fmt.Errorf("take a job: %w", err)
	}
	if job == nil {
		changes := s.breakers.settle(now)
		s.keepBreakers(ctx)
		s.announce(ctx, changes, "")
		return false, blocked, nil
	}
	s.wakeUp() // there may be more for the others
	began := time.Now()
	s.process(ctx, job)
	if s.deps.Rest != nil {
		s.deps.Rest(ctx, time.Since(began))
	}
	return true, nil, nil
}

// take takes a job that is due and whose endpoints may be asked.
func (s *Service) take(ctx context.Context, now time.Time) (job *Job, blocked []string, err error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	if since := now.Sub(s.shared); since < 0 || since >= sharing {
		s.shared = now
		s.keeping.Lock()
		s.shareBreakers(ctx)
		s.keeping.Unlock()
	}
	blocked, all := s.breakers.blocked(now)
	if all {
		return nil, nil, nil
	}
	if job, err = s.deps.Store.Take(ctx, now, lease, blocked); job != nil {
		s.breakers.enter(job.Source)
	}
	return job, blocked, err
}

// sleep waits until a job is due, or one comes.
func (s *Service) sleep(ctx context.Context, now time.Time, closed []string, failed bool) {
	wait := time.Second
	if due, err := s.deps.Store.NextDue(ctx, closed); err == nil && !due.IsZero() && !failed {
		wait = min(wait, max(0, due.Sub(now)))
	}
	timer := time.NewTimer(max(wait, time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-timer.C:
	}
}

// process carries a job out, and decides what follows from a failure.
func (s *Service) process(ctx context.Context, job *Job) {
	ev := job.Change.GetEvent()
	traced, span := s.tracer.Start(stage.Extract(ctx, job.Headers), "embedder.process", trace.WithAttributes(
		attribute.String("hookmesh.event.id", ev.GetId()), attribute.String("hookmesh.source", job.Source), stage.DocumentHash(kafka.DocumentKey(job.Source, job.DocumentID)), attribute.Int64("hookmesh.revision", job.Change.GetRevision()), attribute.Int("hookmesh.attempt", job.Attempts+1)))
	defer span.End()
	learned := &visit{}
	err := s.attemptUnderLease(traced, job, learned)
	now := s.deps.Now()
	wait, changes := s.breakers.leave(job.Source, job.DocumentID, learned, now)
	s.keepBreakers(traced)
	s.announce(traced, changes, learned.cause)
	switch {
	case err == nil:
	case errors.Is(err, ErrSuperseded):
		span.AddEvent("superseded")
	case ctx.Err() != nil: // stopped in the middle: the lease ends and the job is taken again
	case !wait.IsZero():
		span.RecordError(err)
		span.AddEvent("waits for the endpoint", trace.WithAttributes(attribute.String("until", wait.Format(time.RFC3339))))
		s.again(traced, job, wait.Add(s.deps.Jitter(s.cfg.Breaker.First/4)), false, err)
	default:
		span.RecordError(err)
		s.fail(traced, job, err)
	}
}

// shareBreakers takes in what the store holds of breakers, if that has changed; false: it cannot be read, and the first jobs find out
// again. The caller holds s.keeping.
func (s *Service) shareBreakers(ctx context.Context) bool {
	raw, changes, err := s.deps.Store.Breakers(ctx, s.seen)
	if err != nil {
		if ctx.Err() == nil {
			s.deps.Telemetry.Logger.WarnContext(ctx, "which endpoints are left alone cannot be read; the next documents find out", "error", err)
		}
		return false
	}
	if changes == s.seen {
		return true
	}
	s.seen = changes
	kept := map[string]keptBreaker{}
	for endpoint, state := range raw {
		var k keptBreaker
		if err := json.Unmarshal(state, &k); err != nil {
			s.deps.Telemetry.Logger.WarnContext(ctx, "what was kept of a breaker cannot be read; the next documents find out", "endpoint", endpoint, "error", err)
			continue
		}
		kept[endpoint] = k
	}
	for _, endpoint := range s.breakers.share(kept, s.deps.Now()) {
		s.deps.Telemetry.Logger.InfoContext(ctx, "an endpoint answers another embedder again", "endpoint", endpoint)
		s.wakeUp()
	}
	return true
}

// keepBreakers stores which endpoints are left alone, if that has changed, after a look at what others have stored. Who stores at the
// very same moment as another looks again: what the other has found is not undone unseen.
func (s *Service) keepBreakers(ctx context.Context) {
	if !s.breakers.touch(false) {
		return
	}
	s.keeping.Lock()
	defer s.keeping.Unlock()
	for range conflicts {
		if !s.shareBreakers(ctx) {
			break
		}
		err := s.storeBreakers(ctx)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrConflict) {
			if ctx.Err() == nil {
				s.deps.Telemetry.Logger.WarnContext(ctx, "which endpoints are left alone could not be stored; it is tried again with the next document", "error", err)
			}
			break
		}
	}
	s.breakers.touch(true)
}

// storeBreakers stores what the store does not hold. The caller holds s.keeping.
func (s *Service) storeBreakers(ctx context.Context) error {
	unkept := s.breakers.unkept()
	for _, endpoint := range slices.Sorted(maps.Keys(unkept)) {
		k := unkept[endpoint]
		var raw []byte
		if k != nil {
			var err error
			if raw, err = json.Marshal(k); err != nil {
				return fmt.Errorf("encode the breaker of %s: %w", endpoint, err)
			}
		}
		changes, err := s.deps.Store.SetBreaker(ctx, endpoint, raw, s.seen)
		if err != nil {
			return err
		}
		s.seen = changes
		s.breakers.keeps(endpoint, k)
	}
	return nil
}

// announce tells which breakers have opened or closed. That of a source that closes is a debt: what its webhooks and polls
// missed meanwhile is fetched now.
func (s *Service) announce(ctx context.Context, changes []transition, cause string) {
	for _, c := range changes {
		state := "closed"
		if c.open {
			state = "open"
			s.deps.Telemetry.Logger.ErrorContext(ctx, "an endpoint refuses or fails us and is left alone; its documents wait", "endpoint", c.endpoint, "until", c.until, "error", cause)
		} else {
			s.deps.Telemetry.Logger.InfoContext(ctx, "an endpoint answers again", "endpoint", c.endpoint, "after", c.lasted)
		}
		s.meters.breaks.Add(ctx, 1, metric.WithAttributes(attribute.String("endpoint", c.endpoint), attribute.String("state", state)))
		if c.open || c.endpoint == modelEndpoint {
			continue
		}
		debt, err := events.Output(kafka.TopicDebts, c.endpoint, "", &eventv1.Debt{Source: c.endpoint, Reason: "BREAKER_CLOSED", IncurredAt: timestamppb.New(s.deps.Now())})
		if err == nil {
			err = s.deps.Producer.Produce(ctx, []stage.Output{debt})
		}
		if err != nil && ctx.Err() == nil {
			s.deps.Telemetry.Logger.WarnContext(ctx, "the debt of a breaker that closed could not be written; the next poll makes up for it", "source", c.endpoint, "error", err)
		}
	}
}

// attemptUnderLease does the work of a job and keeps it meanwhile. Losing it to a newer change or another worker ends the work.
func (s *Service) attemptUnderLease(ctx context.Context, job *Job, learned *visit) error {
	working, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(renewal)
		defer tick.Stop()
		for {
			select {
			case <-working.Done():
				return
			case <-tick.C:
			}
			if err := s.deps.Store.Renew(working, job, s.deps.Now().Add(lease)); errors.Is(err, ErrSuperseded) {
				cancel(err)
			}
		}
	})
	err := s.attempt(working, job, learned)
	if err != nil && ctx.Err() == nil && working.Err() != nil {
		err = context.Cause(working)
	}
	cancel(nil)
	renewing.Wait()
	return err
}

func (s *Service) report(ctx context.Context, err error) {
	if err != nil && !errors.Is(err, ErrSuperseded) && !errors.Is(err, context.Canceled) {
		s.deps.Telemetry.Logger.ErrorContext(ctx, "the outcome of a job could not be stored; it is done again", "error", err)
	}
}

// again puts a job back until a time.
func (s *Service) again(ctx context.Context, job *Job, at time.Time, counts bool, cause error) {
	s.meters.retries.Add(ctx, 1, metric.WithAttributes(attribute.String("source", job.Source), attribute.Bool("counts", counts)))
	s.report(ctx, s.deps.Store.Retry(ctx, job, at, counts, cause.Error(), s.deps.Now()))
}

// fail tries again later, or gives up: the dead letter is in Kafka before the job ends.
func (s *Service) fail(ctx context.Context, job *Job, cause error) {
	permanent, after := classify(cause)
	now := s.deps.Now()
	policy, ok := s.sources.Load().retries[job.Source]
	if !ok {
		policy = s.cfg.Retry
	}
	if failures := job.Attempts + 1; !permanent && failures < policy.Tries {
		s.again(ctx, job, now.Add(policy.Delay(failures, after, s.deps.Jitter)), true, cause)
		return
	}
	ev := job.Change.GetEvent()
	letter, err := deadLetter(ctx, job, cause, now)
	if err == nil {
		err = s.deps.Producer.Produce(ctx, []stage.Output{letter})
	}
	if err != nil {
		s.report(ctx, fmt.Errorf("write dead letter: %w", err))
		s.again(ctx, job, now.Add(unwritten), false, cause)
		return
	}
	s.deps.Telemetry.Logger.WarnContext(ctx, "a change was given up", "source", job.Source, "event", ev.GetId(), "attempts", job.Attempts+1, "error", cause)
	s.count(ctx, job.Source, "dead")
	s.report(ctx, s.deps.Store.Bury(ctx, job, &embedderv1.EventRecord{
		Id: ev.GetId(), Outcome: embedderv1.Outcome_OUTCOME_DEAD, Reason: cause.Error(), Attempts: int32(job.Attempts + 1), DecidedAt: timestamppb.New(now),
	}, cause.Error(), now))
}
