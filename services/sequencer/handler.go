package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

const (
	// dueLimit bounds how many documents' timers one transaction looks at.
	dueLimit = 500
	// expireLimit bounds the clean-up of one transaction.
	expireLimit = 1000
)

// batch is one call of Handle.
type batch struct {
	*Service
	tx  Tx
	in  stage.Batch
	now int64
	res stage.Result
	// decision is what the core fills, again and again.
	decision Decision
	totals   Totals
	// graves says, for the sources that were asked about, whether any of their containers has a grave.
	graves map[string]bool
	// trigger is the event that is being decided on: the one that is not in the store yet.
	trigger *eventv1.Event
	context context.Context // of the trigger's record
	counts  map[[2]string]int64
}

// Handle implements stage.Handler: events in order of arrival, then the timers that are due.
func (s *Service) Handle(ctx context.Context, tx Tx, in stage.Batch) (stage.Result, error) {
	b := &batch{Service: s, tx: tx, in: in, now: in.Now.UnixMicro(), counts: map[[2]string]int64{}, graves: map[string]bool{}}
	totals, err := tx.Totals(ctx, in.Partition)
	if err != nil {
		return b.res, fmt.Errorf("read totals: %w", err)
	}
	b.totals = totals
	if err := b.records(ctx); err != nil {
		return b.res, err
	}
	if err := b.timers(ctx); err != nil {
		return b.res, err
	}
	if b.totals != totals {
		if err := tx.SetTotals(ctx, in.Partition, b.totals); err != nil {
			return b.res, fmt.Errorf("store totals: %w", err)
		}
	}
	if err := tx.Expire(ctx, in.Now.Add(-s.cfg.EventRetention), in.Now.Add(-s.cfg.TombstoneTTL), expireLimit); err != nil {
		return b.res, fmt.Errorf("forget old records: %w", err)
	}
	b.res.Committed = func() {
		for k, n := range b.counts {
			s.outcomes.Add(context.Background(), n, metric.WithAttributes(attribute.String("source", k[0]), attribute.String("outcome", k[1])))
		}
	}
	return b.res, nil
}

// records decides on the records of the batch, whose documents are read at once.
func (b *batch) records(ctx context.Context) error {
	decoded, unreadable := make([]*eventv1.Event, len(b.in.Records)), make([]error, len(b.in.Records))
	var keys []string
	for i, rec := range b.in.Records {
		if isCommand(rec) {
			continue
		}
		ev, err := events.Decode(rec.Value)
		if err != nil {
			unreadable[i] = err
			continue
		}
		decoded[i] = ev
		keys = append(keys, string(kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId())))
	}
	if err := b.tx.Prefetch(ctx, keys); err != nil {
		return fmt.Errorf("read documents: %w", err)
	}
	for i, rec := range b.in.Records {
		var err error
		switch {
		case unreadable[i] != nil:
			err = b.dead(rec, unreadable[i])
		case decoded[i] == nil:
			err = b.command(ctx, rec)
		default:
			if err = b.event(ctx, rec, decoded[i]); err != nil {
				err = fmt.Errorf("decide on event %s: %w", decoded[i].GetId(), err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dead sends a record that cannot be read to the dead letters.
func (b *batch) dead(rec stage.Record, cause error) error {
	out, err := events.Dead(rec, "sequencer", "RECORD_UNREADABLE", cause, b.in.Now)
	if err != nil {
		return err
	}
	b.counts[[2]string{"", "dead"}]++
	b.res.Outputs = append(b.res.Outputs, out)
	return nil
}

// rules are what the configuration bounds.
func (b *batch) rules() Rules {
	return Rules{MaxHeld: b.cfg.MaxHeld, Full: b.totals.Held >= int64(b.cfg.MaxHeldTotal), Tombstone: b.cfg.TombstoneTTL.Microseconds()}
}

// document is one that is being decided on.
type document struct {
	key, source, id string
	State
	in []string // its containers before
}

func (b *batch) load(ctx context.Context, source, id string) (*document, error) {
	doc := &document{key: string(kafka.DocumentKey(source, id)), source: source, id: id}
	var err error
	if doc.State, err = b.tx.Document(ctx, doc.key); err != nil {
		return nil, err
	}
	if doc.Revision == 0 && doc.Base == 0 {
		doc.Base = b.totals.Floor
	}
	doc.in = doc.In
	for i := range doc.Held {
		if err := b.lookUpGrave(ctx, doc, &doc.Held[i]); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// event decides on one event.
func (b *batch) event(ctx context.Context, rec stage.Record, ev *eventv1.Event) error {
	b.trigger, b.context = ev, rec.Context
	doc, err := b.load(ctx, ev.GetSource(), ev.GetDocumentId())
	if err != nil {
		return err
	}
	it := itemOf(ev)
	if it.Mode == SourceContiguous && it.HasSeq && !it.State {
		if err := b.count(ctx, ev.GetSource(), it); err != nil {
			return err
		}
	}
	if it.Cascade {
		it.Elsewhere = len(it.Containers) != 1 || !liesIn(doc.id, doc.In, it.Containers[0])
	} else if err := b.lookUpGrave(ctx, doc, &it); err != nil {
		return err
	}
	Apply(&doc.State, it, b.rules(), b.now, &b.decision)
	if b.decision.Held {
		if err := b.hold(ctx, rec, ev); err != nil {
			return err
		}
	}
	return b.carryOut(ctx, doc)
}

// carryOut turns a decision into outputs and records, and stores the document.
func (b *batch) carryOut(ctx context.Context, doc *document) error {
	for _, st := range b.decision.Stale {
		if err := b.stale(ctx, doc, st); err != nil {
			return err
		}
	}
	for _, e := range b.decision.Emits {
		if err := b.emit(ctx, doc, e); err != nil {
			return err
		}
	}
	if b.decision.Ask {
		if err := b.debt(doc.source, doc.id, ""); err != nil {
			return err
		}
	}
	if !slices.Equal(doc.in, doc.In) {
		keys := make([]string, len(doc.In))
		for i, c := range doc.In {
			keys[i] = string(kafka.DocumentKey(doc.source, c))
		}
		if err := b.tx.SetContainers(ctx, doc.key, keys); err != nil {
			return fmt.Errorf("store containers: %w", err)
		}
	}
	return b.tx.SetDocument(ctx, doc.key, b.in.Partition, doc.State)
}

// stale records an event that does not pass.
func (b *batch) stale(ctx context.Context, doc *document, st Stale) error {
	ev, traced, _, err := b.take(ctx, st.Item.ID)
	if err != nil {
		return err
	}
	if ev.GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED && st.Item.Occurred != 0 {
		// What it says about the members holds by its time, whatever is known of the container itself.
		if err := b.sweepMembers(ctx, doc, ev, traced, st.Item); err != nil {
			return err
		}
	}
	trace.SpanFromContext(traced).AddEvent("stale", trace.WithAttributes(attribute.String("reason", st.Reason)))
	b.counts[[2]string{doc.source, "stale"}]++
	return b.tx.SetRecord(ctx, &sequencerv1.EventRecord{Id: ev.GetId(), Outcome: sequencerv1.Outcome_OUTCOME_STALE, Reason: st.Reason, DecidedAt: timestamppb.New(b.in.Now)}, b.in.Now)
}

// emit passes an event on.
func (b *batch) emit(ctx context.Context, doc *document, e Emit) error {
	ev, traced, held, err := b.take(ctx, e.Item.ID)
	if err != nil {
		return err
	}
	subtree := ev.GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED
	if subtree || e.Item.Cascade {
		if err := b.sweepMembers(ctx, doc, ev, traced, e.Item); err != nil {
			return err
		}
	}
	if e.Item.Action == Deleted && ev.GetAction() != eventv1.Action_ACTION_DELETED {
		// The deletion of a container: its members' follow, each in its own order, and this one is about it alone. Or what
		// lay in a container that was deleted since.
		ev = proto.CloneOf(ev)
		ev.Action, ev.Content, ev.Payload = eventv1.Action_ACTION_DELETED, &eventv1.Content{}, nil
	}
	out, err := events.Output(kafka.TopicChanged, doc.source, doc.id, &eventv1.Change{Event: ev, Revision: e.Revision, Refetch: e.Refetch, Gap: e.Gap})
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
	b.counts[[2]string{doc.source, name}]++
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
	b.totals.Held--
	ev := &eventv1.Event{}
	if err := proto.Unmarshal(h.Event, ev); err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("decode held event %s: %w", id, errors.New("it is no event"))
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
	b.totals.Held++
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
