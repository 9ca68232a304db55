package sequencer

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// dueLimit bounds how many documents' timers one transaction looks at.
const dueLimit = 500

// batch is one call of Handle.
type batch struct {
	*Service
	tx  Tx
	in  stage.Batch
	now int64
	res stage.Result
	// trigger is the event that is being decided on: the one that is not in the store yet.
	trigger *eventv1.Event
	context context.Context // of the trigger's record
	counts  map[[2]string]int64
}

// Handle implements stage.Handler: events in order of arrival, then the timers that are due.
func (s *Service) Handle(ctx context.Context, tx Tx, in stage.Batch) (stage.Result, error) {
	b := &batch{Service: s, tx: tx, in: in, now: in.Now.UnixMicro(), counts: map[[2]string]int64{}}
	for _, rec := range in.Records {
		ev, err := events.Decode(rec.Value)
		if err != nil {
			out, derr := events.Dead(rec, "sequencer", "RECORD_UNREADABLE", err, in.Now)
			if derr != nil {
				return b.res, derr
			}
			b.res.Outputs = append(b.res.Outputs, out)
			continue
		}
		if err := b.event(ctx, rec, ev); err != nil {
			return b.res, fmt.Errorf("decide on event %s: %w", ev.GetId(), err)
		}
	}
	due, err := tx.Due(ctx, in.Partition, in.Now, dueLimit)
	if err != nil {
		return b.res, fmt.Errorf("read what is due: %w", err)
	}
	b.trigger = nil
	for _, key := range due {
		if err := b.expire(ctx, key); err != nil {
			return b.res, fmt.Errorf("end the wait of %s: %w", key, err)
		}
	}
	if b.res.Due, err = tx.NextDue(ctx, in.Partition); err != nil {
		return b.res, fmt.Errorf("read what is due next: %w", err)
	}
	if err := tx.Expire(ctx, in.Now.Add(-s.retention), 1000); err != nil {
		return b.res, fmt.Errorf("forget old records: %w", err)
	}
	b.res.Committed = func() {
		for k, n := range b.counts {
			s.outcomes.Add(context.Background(), n, metric.WithAttributes(attribute.String("source", k[0]), attribute.String("outcome", k[1])))
		}
	}
	return b.res, nil
}

// event decides on one event.
func (b *batch) event(ctx context.Context, rec stage.Record, ev *eventv1.Event) error {
	b.trigger, b.context = ev, rec.Context
	key := string(kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId()))
	state, err := b.tx.Document(ctx, key)
	if err != nil {
		return err
	}
	it := itemOf(ev)
	if it.Mode == SourceContiguous && it.HasSeq && !it.State {
		if err := b.count(ctx, ev, it); err != nil {
			return err
		}
	}
	d := Apply(&state, it, b.now)
	if d.Held {
		if err := b.hold(ctx, rec, ev); err != nil {
			return err
		}
	}
	if err := b.carryOut(ctx, ev.GetSource(), ev.GetDocumentId(), d); err != nil {
		return err
	}
	return b.tx.SetDocument(ctx, key, b.in.Partition, state)
}

// count looks for holes in the numbers of a source.
func (b *batch) count(ctx context.Context, ev *eventv1.Event, it Item) error {
	n, err := b.tx.Numbers(ctx, ev.GetSource())
	if err != nil {
		return err
	}
	n.Add(it.Seq, b.now)
	if n.Since != 0 && b.now-n.Since >= it.Gap {
		n.GiveUp()
		if err := b.debt(ev.GetSource(), "", ev.GetId()); err != nil {
			return err
		}
	}
	return b.tx.SetNumbers(ctx, ev.GetSource(), n)
}

// expire decides on a document whose time has come.
func (b *batch) expire(ctx context.Context, key string) error {
	state, err := b.tx.Document(ctx, key)
	if err != nil {
		return err
	}
	source, document := splitKey(key)
	d := Expire(&state, b.now)
	if err := b.carryOut(ctx, source, document, d); err != nil {
		return err
	}
	return b.tx.SetDocument(ctx, key, b.in.Partition, state)
}

// carryOut turns a decision into outputs and records.
func (b *batch) carryOut(ctx context.Context, source, document string, d Decision) error {
	for _, it := range d.Stale {
		ev, traced, held, err := b.take(ctx, it.ID)
		if err != nil {
			return err
		}
		trace.SpanFromContext(traced).AddEvent("stale")
		b.counts[[2]string{source, "stale"}]++
		r := &sequencerv1.EventRecord{Id: ev.GetId(), Outcome: sequencerv1.Outcome_OUTCOME_STALE, Reason: "older than what is known of the document", DecidedAt: timestamppb.New(b.in.Now)}
		if !held.IsZero() {
			r.Reason = "a newer state of the document came while it was held"
		}
		if err := b.tx.SetRecord(ctx, r, b.in.Now); err != nil {
			return err
		}
	}
	for _, e := range d.Emits {
		if err := b.emit(ctx, source, document, e); err != nil {
			return err
		}
	}
	if d.Ask {
		return b.debt(source, document, "")
	}
	return nil
}

// emit passes an event on.
func (b *batch) emit(ctx context.Context, source, document string, e Emit) error {
	ev, traced, held, err := b.take(ctx, e.Item.ID)
	if err != nil {
		return err
	}
	out, err := events.Output(kafka.TopicChanged, source, document, &eventv1.Change{Event: ev, Revision: e.Revision, Refetch: e.Refetch, Gap: e.Gap})
	if err != nil {
		return err
	}
	r := &sequencerv1.EventRecord{Id: ev.GetId(), Outcome: sequencerv1.Outcome_OUTCOME_EMITTED, Reason: e.Reason, Revision: e.Revision, DecidedAt: timestamppb.New(b.in.Now), Gap: e.Gap}
	name := "emitted"
	if !held.IsZero() {
		name = "released"
		r.Outcome, r.DecidedAt, r.ReleasedAt = sequencerv1.Outcome_OUTCOME_RELEASED, timestamppb.New(held), timestamppb.New(b.in.Now)
		var span trace.Span
		traced, span = b.tracer.Start(traced, "sequencer.hold", trace.WithTimestamp(held), trace.WithAttributes(
			attribute.String("hookmesh.event.id", ev.GetId()), attribute.String("hookmesh.reason", e.Reason), attribute.Bool("hookmesh.gap", e.Gap)))
		span.AddEvent("released", trace.WithAttributes(attribute.String("reason", e.Reason), attribute.String("held", b.in.Now.Sub(held).String())))
		span.End(trace.WithTimestamp(b.in.Now))
	} else {
		trace.SpanFromContext(traced).AddEvent("emitted", trace.WithAttributes(attribute.String("reason", e.Reason), attribute.Int64("revision", e.Revision)))
	}
	b.counts[[2]string{source, name}]++
	out.Context = traced
	b.res.Outputs = append(b.res.Outputs, out)
	return b.tx.SetRecord(ctx, r, b.in.Now)
}

// take returns the event of an item with its trace: the one that is being decided on, or one that was held.
func (b *batch) take(ctx context.Context, id string) (*eventv1.Event, context.Context, time.Time, error) {
	if b.trigger != nil && b.trigger.GetId() == id {
		return b.trigger, b.context, time.Time{}, nil
	}
	h, err := b.tx.Release(ctx, id)
	if err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("release %s: %w", id, err)
	}
	ev := &eventv1.Event{}
	if err := proto.Unmarshal(h.Event, ev); err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("decode held event %s: %w", id, err)
	}
	return ev, stage.Extract(context.Background(), h.Headers), h.At, nil
}

// hold keeps an event with its trace.
func (b *batch) hold(ctx context.Context, rec stage.Record, ev *eventv1.Event) error {
	trace.SpanFromContext(rec.Context).AddEvent("held", trace.WithAttributes(attribute.String("reason", "a predecessor is missing")))
	b.counts[[2]string{ev.GetSource(), "held"}]++
	var headers []stage.Header
	stage.Inject(rec.Context, &headers)
	if err := b.tx.Hold(ctx, ev.GetId(), Held{Event: rec.Value, Headers: headers, At: b.in.Now}); err != nil {
		return err
	}
	return b.tx.SetRecord(ctx, &sequencerv1.EventRecord{Id: ev.GetId(), Outcome: sequencerv1.Outcome_OUTCOME_HELD, Reason: "waits for a missing predecessor", DecidedAt: timestamppb.New(b.in.Now)}, b.in.Now)
}

// debt asks the reconciler for a document, or for the whole source.
func (b *batch) debt(source, document, eventID string) error {
	out, err := events.Output(kafka.TopicDebts, source, document, &eventv1.Debt{
		Source: source, DocumentId: document, Reason: "GAP", IncurredAt: timestamppb.New(b.in.Now), EventId: eventID})
	if err != nil {
		return err
	}
	b.counts[[2]string{source, "asked"}]++
	b.res.Outputs = append(b.res.Outputs, out)
	return nil
}
