package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/reconciler/rhythm"
)

// poller takes care of one source.
type poller struct {
	*Service
	src Source
	// mine says that this instance holds the source's lease.
	mine atomic.Bool
	// polling is full while a poll is under way: two at once would fight over the cursor. It is a channel, so that who waits for it goes
	// when its context ends. sweeping is held by a sweep.
	polling  chan struct{}
	sweeping sync.Mutex
	// paidAt is when a poll last paid debts; it belongs to the loop that pays.
	paidAt time.Time
	// kick wakes the loop of polls: a backfill was asked for, or webhooks have fallen silent.
	kick chan struct{}

	// listened is when the source's silence was judged last; judged is the verdict. They belong to the loop of polls.
	listened time.Time
	judged   rhythm.Verdict

	mu   sync.Mutex
	next time.Time
	// hurried: a poll was asked for after the last one had begun. One that is under way may have read past what it is asked for.
	hurried bool
	failure string
}

const (
	// firstPoll bounds how long after the start the first poll comes, and perSource how much longer for each source that there is,
	// so that a start is no herd.
	firstPoll = 5 * time.Second
	perSource = 100 * time.Millisecond
	// firstRetry bounds the pause after the first failed poll.
	firstRetry = time.Second
	// lookAround is how often the loop looks whether somebody has asked for a backfill elsewhere.
	lookAround = 10 * time.Second
)

// run polls on schedule: soon after the start, then at the interval, spread by a tenth; after failures earlier, backing off with
// full jitter. A backfill is read in between, page by page; a source that was never read begins with one.
func (p *poller) run(ctx context.Context) {
	p.schedule(p.deps.Jitter(min(p.src.Poll.Interval, firstPoll+time.Duration(len(p.pollers()))*perSource)))
	retry, failures := firstRetry, 0
	for ctx.Err() == nil {
		p.listen(ctx)
		fill, fresh, err := p.backfill(ctx)
		switch {
		case err != nil:
			p.failed(ctx, "reading the state of a backfill failed", err)
			sleep(ctx, firstRetry)
		case fill != nil && (!fresh || p.due()):
			if p.due() && !fresh {
				p.pollNow(ctx, &retry)
			}
			if err := p.fill(ctx, fill); err != nil && ctx.Err() == nil {
				failures++
				sleep(ctx, max(connector.RetryAfter(err), p.deps.Jitter(min(firstRetry<<min(failures, 20), p.src.Poll.Interval))))
				continue
			}
			failures = 0
			if fresh && fill.GetState() == reconcilerv1.BackfillState_BACKFILL_STATE_DONE {
				p.scheduleNext()
			}
		case p.due():
			p.pollNow(ctx, &retry)
		default:
			p.idle(ctx)
		}
	}
}

// pollNow polls on schedule and says when next.
func (p *poller) pollNow(ctx context.Context, retry *time.Duration) {
	p.mu.Lock()
	p.hurried = false
	p.mu.Unlock()
	_, _, err := p.poll(ctx, false)
	if err == nil {
		*retry = firstRetry
		p.scheduleNext()
		return
	}
	p.schedule(max(min(p.spread(), p.deps.Jitter(*retry)+*retry/10), connector.RetryAfter(err)))
	*retry = min(2**retry, p.src.Poll.Interval)
}

// spread is the pause between two polls: the interval, give or take a tenth; a twelfth of it while webhooks are missed.
func (p *poller) spread() time.Duration {
	d := p.src.Poll.Interval
	if p.judged != rhythm.Normal {
		d = max(d/12, min(d, time.Minute))
	}
	return d*9/10 + p.deps.Jitter(d/5+1)
}

func (p *poller) schedule(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = p.deps.Now().Add(wait)
}

// scheduleNext says when the next poll on schedule is, after one that went well: now, if somebody has asked for it meanwhile.
func (p *poller) scheduleNext() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hurried {
		p.next = p.deps.Now().Add(p.spread())
	}
}

// hurry has the source polled from now on: by a poll that begins after this, whatever is under way.
func (p *poller) hurry() {
	p.mu.Lock()
	p.next, p.hurried = p.deps.Now(), true
	p.mu.Unlock()
	p.wakeUp()
}

func (p *poller) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deps.Now().Before(p.next)
}

// idle waits until the next poll is due or somebody kicks.
func (p *poller) idle(ctx context.Context) {
	p.mu.Lock()
	wait := min(lookAround, max(time.Millisecond, p.next.Sub(p.deps.Now())))
	p.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-p.kick:
	}
}

// wakeUp makes the loop look around at once.
func (p *poller) wakeUp() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// failed notes an error for people.
func (p *poller) failed(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	p.failure = err.Error()
	p.mu.Unlock()
	p.deps.Telemetry.Logger.WarnContext(ctx, what, "source", p.src.Name, "error", err)
}

// begin waits until no other poll is under way.
func (p *poller) begin(ctx context.Context) error {
	select {
	case p.polling <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if ctx.Err() != nil {
		<-p.polling
	}
	return context.Cause(ctx)
}

// poll reads the list from the cursor to the end. The cursor is stored only after the changes before it are in Kafka.
func (p *poller) poll(ctx context.Context, full bool) (listed, produced int64, err error) {
	if err := p.begin(ctx); err != nil {
		return 0, 0, err
	}
	defer func() { <-p.polling }()
	ctx, span := p.tracer.Start(ctx, "reconciler.poll", trace.WithAttributes(attribute.String("hookmesh.source", p.src.Name)))
	defer span.End()
	defer func() {
		if err != nil {
			span.RecordError(err)
			p.failed(ctx, "polling a source failed", err)
			return
		}
		p.mu.Lock()
		p.failure = ""
		p.mu.Unlock()
	}()
	cursor, _, err := p.deps.Store.Cursor(ctx, p.src.Name)
	if err != nil {
		return 0, 0, fmt.Errorf("read cursor: %w", err)
	}
	if full {
		cursor = ""
	}
	for {
		asked := p.deps.Now()
		page, err := p.src.Lister.List(ctx, cursor)
		if errors.Is(err, connector.ErrCursor) && cursor != "" {
			p.deps.Telemetry.Logger.WarnContext(ctx, "a source's list begins anew", "source", p.src.Name, "error", err)
			cursor = ""
			continue
		}
		if err != nil {
			return listed, produced, fmt.Errorf("list changes: %w", err)
		}
		if err := p.produce(ctx, page.Changes, asked, "poll"); err != nil {
			return listed, produced, err
		}
		listed += int64(len(page.Changes))
		produced += int64(len(page.Changes))
		advanced := page.Next != "" && page.Next != cursor
		if advanced {
			cursor = page.Next
		}
		done := !page.More || !advanced
		var at time.Time
		if done {
			at = p.deps.Now()
		}
		if err := p.deps.Store.SetCursor(ctx, p.src.Name, cursor, at); err != nil {
			return listed, produced, fmt.Errorf("store cursor: %w", err)
		}
		if done {
			span.SetAttributes(attribute.Int64("hookmesh.changes", listed))
			return listed, produced, nil
		}
	}
}

// produce puts changes into the mesh, each with a trace of its own that links to the poll. They are as old as the question: the answer may
// have been under way while the source went on changing, and nothing proves that it knows what happened then.
func (p *poller) produce(ctx context.Context, changes []connector.Change, asked time.Time, origin string) error {
	if len(changes) == 0 {
		return nil
	}
	outputs := make([]stage.Output, 0, len(changes))
	for _, c := range changes {
		ev := newEvent(p.src, p.deps.NewID(), c.DocumentID, eventv1.Origin_ORIGIN_POLL, asked)
		ev.Version = c.Version
		if c.Deleted {
			ev.Action = eventv1.Action_ACTION_DELETED
		}
		if !c.UpdatedAt.IsZero() {
			ev.OccurredAt = timestamppb.New(c.UpdatedAt)
		}
		ev.Sequence, ev.Content.Url, ev.Containers = c.Sequence, c.URL, c.Containers
		out, err := p.output(ctx, ev)
		if err != nil {
			return err
		}
		outputs = append(outputs, out)
	}
	if err := p.deps.Producer.Produce(ctx, outputs); err != nil {
		return fmt.Errorf("write %d changes: %w", len(outputs), err)
	}
	p.count(ctx, len(outputs), origin)
	return nil
}

// event is a change that hookmesh found out by itself. Its content is fetched.
func (p *poller) event(documentID string, origin eventv1.Origin) *eventv1.Event {
	return newEvent(p.src, p.deps.NewID(), documentID, origin, p.deps.Now())
}

func newEvent(src Source, id, documentID string, origin eventv1.Origin, now time.Time) *eventv1.Event {
	return &eventv1.Event{
		Id: id, Source: src.Name, DocumentId: documentID, Action: eventv1.Action_ACTION_UPDATED,
		Ordering: src.OrderingMode, Origin: origin, ReceivedAt: timestamppb.New(now), Assurance: eventv1.Assurance_ASSURANCE_BODY,
		Content: &eventv1.Content{}, DedupeTtlSeconds: int64(src.Dedupe.TTL.Seconds()), GapTimeoutMs: src.Ordering.GapTimeout.Milliseconds(),
	}
}

func (p *poller) output(ctx context.Context, ev *eventv1.Event) (stage.Output, error) {
	out, err := events.Output(kafka.TopicAccepted, ev.GetSource(), ev.GetDocumentId(), ev)
	if err != nil {
		return out, err
	}
	traced, span := p.tracer.Start(ctx, "reconciler.found", trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)),
		trace.WithAttributes(attribute.String("hookmesh.event.id", ev.GetId()), attribute.String("hookmesh.source", ev.GetSource())))
	span.End()
	out.Context = trace.ContextWithSpanContext(context.Background(), trace.SpanContextFromContext(traced))
	return out, nil
}

// status tells how the source stands.
func (p *poller) status(ctx context.Context) (*reconcilerv1.SourceStatus, error) {
	st := &reconcilerv1.SourceStatus{Name: p.src.Name, Preset: p.src.Preset}
	_, polledAt, err := p.deps.Store.Cursor(ctx, p.src.Name)
	if err != nil {
		return nil, err
	}
	if !polledAt.IsZero() {
		st.PolledAt = timestamppb.New(polledAt)
	}
	debts, err := p.deps.Store.CountDebts(ctx, p.src.Name)
	if err != nil {
		return nil, err
	}
	st.OpenDebts, st.PaidDebts, st.WrittenOffDebts = debts.Open, debts.Paid, debts.WrittenOff
	leases, err := p.deps.Store.Leases(ctx, p.deps.Now())
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if l.Name == sourceLease+p.src.Name {
			st.HeldBy = l.Owner
		}
	}
	st.Unsubscribed = p.unsubscribed()
	if st.Subscriptions, err = p.subscriptionStatus(ctx); err != nil {
		return nil, err
	}
	r, err := p.rhythm(ctx)
	if err != nil {
		return nil, err
	}
	if !r.Last.IsZero() {
		st.HeardAt = timestamppb.New(r.Last)
		verdict, expected := r.Judge(p.deps.Now())
		st.ExpectedWebhooks, st.Silent = expected, verdict == rhythm.Silent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Error = p.failure
	if p.src.Lister != nil && !p.next.IsZero() {
		st.NextPollAt = timestamppb.New(p.next)
	}
	return st, nil
}
