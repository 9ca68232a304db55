package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// poller polls one source.
type poller struct {
	*Service
	src Source
	// polling is held by the poll under way: two at once would fight over the cursor.
	polling sync.Mutex
	// paidAt is when a poll last paid debts; it belongs to the loop that pays.
	paidAt time.Time

	mu      sync.Mutex
	next    time.Time
	failure string
}

const (
	// firstPoll bounds how long after the start the first poll comes.
	firstPoll = 5 * time.Second
)

// run polls on schedule: soon after the start, then at the interval, spread by a tenth; after failures earlier, backing off.
func (p *poller) run(ctx context.Context) {
	wait := rand.N(min(p.src.Poll.Interval, firstPoll))
	retry := time.Second
	for {
		p.mu.Lock()
		p.next = p.deps.Now().Add(wait)
		p.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		_, _, err := p.poll(ctx, false)
		wait = p.src.Poll.Interval*9/10 + rand.N(p.src.Poll.Interval/5+1)
		if err != nil {
			wait = max(min(wait, rand.N(retry)+retry/2), connector.RetryAfter(err))
			retry = min(2*retry, p.src.Poll.Interval)
			continue
		}
		retry = time.Second
	}
}

// poll reads the list from the cursor to the end. The cursor is stored only after the changes before it are in Kafka.
func (p *poller) poll(ctx context.Context, full bool) (listed, produced int64, err error) {
	p.polling.Lock()
	defer p.polling.Unlock()
	ctx, span := p.tracer.Start(ctx, "reconciler.poll", trace.WithAttributes(attribute.String("hookmesh.source", p.src.Name)))
	defer span.End()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.failure = ""
		if err != nil && ctx.Err() == nil {
			p.failure = err.Error()
			span.RecordError(err)
			p.deps.Telemetry.Logger.WarnContext(ctx, "polling a source failed", "source", p.src.Name, "error", err)
		}
	}()
	cursor, _, err := p.deps.Store.Cursor(ctx, p.src.Name)
	if err != nil {
		return 0, 0, fmt.Errorf("read cursor: %w", err)
	}
	if full {
		cursor = ""
	}
	for {
		page, err := p.src.Lister.List(ctx, cursor)
		if errors.Is(err, connector.ErrCursor) && cursor != "" {
			p.deps.Telemetry.Logger.WarnContext(ctx, "a source's list begins anew", "source", p.src.Name, "error", err)
			cursor = ""
			continue
		}
		if err != nil {
			return listed, produced, fmt.Errorf("list changes: %w", err)
		}
		if err := p.produce(ctx, page.Changes); err != nil {
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

// produce puts changes into the mesh, each with a trace of its own that links to the poll.
func (p *poller) produce(ctx context.Context, changes []connector.Change) error {
	if len(changes) == 0 {
		return nil
	}
	outputs := make([]stage.Output, 0, len(changes))
	for _, c := range changes {
		ev := p.event(c.DocumentID, eventv1.Origin_ORIGIN_POLL)
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
	p.produced.Add(ctx, int64(len(outputs)), metric.WithAttributes(attribute.String("source", p.src.Name), attribute.String("origin", "poll")))
	return nil
}

// event is a change that hookmesh found out by itself. Its content is fetched.
func (p *poller) event(documentID string, origin eventv1.Origin) *eventv1.Event {
	return newEvent(p.src, documentID, origin, p.deps.Now())
}

func newEvent(src Source, documentID string, origin eventv1.Origin, now time.Time) *eventv1.Event {
	return &eventv1.Event{
		Id: uuid.Must(uuid.NewV7()).String(), Source: src.Name, DocumentId: documentID, Action: eventv1.Action_ACTION_UPDATED,
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
	if st.OpenDebts, st.PaidDebts, err = p.deps.Store.CountDebts(ctx, p.src.Name); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Error = p.failure
	if p.src.Lister != nil && !p.next.IsZero() {
		st.NextPollAt = timestamppb.New(p.next)
	}
	return st, nil
}
