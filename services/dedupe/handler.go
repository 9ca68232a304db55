package dedupe

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// expireLimit bounds the clean-up of one batch, so that it costs the same however much is remembered.
const expireLimit = 1000

// Handle implements stage.Handler: it passes on the first delivery of each event.
func (s *Service) Handle(ctx context.Context, tx Tx, b stage.Batch) (stage.Result, error) {
	var res stage.Result
	counts := map[[2]string]int64{}
	decoded, unreadable := decode(b.Records)
	if err := tx.Prefetch(ctx, wanted(decoded)); err != nil {
		return res, fmt.Errorf("read what is remembered: %w", err)
	}
	for i, rec := range b.Records {
		ev := decoded[i]
		if ev == nil {
			out, err := events.Dead(rec, "dedupe", "RECORD_UNREADABLE", unreadable[i], b.Now)
			if err != nil {
				return res, err
			}
			res.Outputs = append(res.Outputs, out)
			counts[[2]string{"", "dead"}]++
			continue
		}
		outcome, err := s.decide(ctx, tx, rec, ev, b.Now)
		if err != nil {
			return res, fmt.Errorf("decide on event %s: %w", ev.GetId(), err)
		}
		if outcome == "unique" {
			res.Outputs = append(res.Outputs, stage.Output{Topic: kafka.TopicUnique, Key: rec.Key, Value: rec.Value, Context: rec.Context})
		}
		counts[[2]string{ev.GetSource(), outcome}]++
	}
	if err := tx.Expire(ctx, b.Now, s.retention, expireLimit); err != nil {
		return res, fmt.Errorf("forget what has expired: %w", err)
	}
	res.Committed = func() {
		for k, n := range counts {
			s.outcomes.Add(context.Background(), n, metric.WithAttributes(attribute.String("source", k[0]), attribute.String("outcome", k[1])))
		}
	}
	return res, nil
}

// decode reads the events of a batch: nil where a record is none, with the reason.
func decode(records []stage.Record) (decoded []*eventv1.Event, unreadable map[int]error) {
	decoded = make([]*eventv1.Event, len(records))
	unreadable = map[int]error{}
	for i, rec := range records {
		ev, err := events.Decode(rec.Value)
		if err != nil {
			unreadable[i] = err
			continue
		}
		decoded[i] = ev
	}
	return decoded, unreadable
}

// wanted is what decisions on these events will ask about.
func wanted(decoded []*eventv1.Event) Wanted {
	var w Wanted
	for _, ev := range decoded {
		if ev == nil {
			continue
		}
		w.Events = append(w.Events, ev.GetId())
		if ev.GetIdempotencyKey() != "" {
			w.Keys = append(w.Keys, KeyOf(ev.GetSource(), ev.GetIdempotencyKey()))
		}
		w.Documents = append(w.Documents, string(kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId())))
	}
	return w
}

// decide judges one event and remembers it: unique, duplicate, or again (the very same event, produced twice).
func (s *Service) decide(ctx context.Context, tx Tx, rec stage.Record, ev *eventv1.Event, now time.Time) (string, error) {
	if again, err := tx.Decided(ctx, ev.GetId()); err != nil || again {
		return "again", err
	}
	document := kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId())
	var facts Facts
	var err error
	key := KeyOf(ev.GetSource(), ev.GetIdempotencyKey())
	if ev.GetIdempotencyKey() != "" {
		if facts.First, err = tx.First(ctx, key, now); err != nil {
			return "", err
		}
	}
	if facts.Newest, err = tx.Newest(ctx, document, now); err != nil {
		return "", err
	}
	verdict := Decide(ev, facts)
	record := recordOf(rec, ev, verdict, now)
	span := trace.SpanFromContext(rec.Context)
	span.SetAttributes(attribute.String("hookmesh.event.id", ev.GetId()), attribute.String("hookmesh.source", ev.GetSource()),
		attribute.String("hookmesh.outcome", record.GetOutcome().String()))
	if err := tx.Record(ctx, record); err != nil {
		return "", err
	}
	if verdict.DuplicateOf != "" {
		span.AddEvent("duplicate", trace.WithAttributes(attribute.String("of", verdict.DuplicateOf), attribute.String("reason", verdict.Reason)))
		return "duplicate", nil
	}
	expires := now.Add(TTL(ev))
	if ev.GetIdempotencyKey() != "" {
		if err := tx.Remember(ctx, key, First{EventID: ev.GetId(), Partition: rec.Partition, Offset: rec.Offset, Expires: expires}); err != nil {
			return "", err
		}
	}
	newest := Newest{EventID: ev.GetId(), Hash: ev.GetContentHash(), Version: ev.GetVersion(), Deleted: IsDeletion(ev), Expires: expires}
	if ev.GetOrigin() == eventv1.Origin_ORIGIN_POLL {
		newest.Polled = ev.GetReceivedAt().AsTime()
	}
	return "unique", tx.SetNewest(ctx, document, newest)
}

func recordOf(rec stage.Record, ev *eventv1.Event, v Verdict, now time.Time) *dedupev1.EventRecord {
	r := &dedupev1.EventRecord{
		Id: ev.GetId(), Source: ev.GetSource(), DocumentId: ev.GetDocumentId(), Action: ev.GetAction(), Origin: ev.GetOrigin(),
		Preset: ev.GetPreset(), SecretIndex: ev.GetSecretIndex(), IdempotencyKey: ev.GetIdempotencyKey(), Version: ev.GetVersion(),
		ReceivedAt: ev.GetReceivedAt(), DecidedAt: timestamppb.New(now), Outcome: dedupev1.Outcome_OUTCOME_UNIQUE,
		DuplicateOf: v.DuplicateOf, Partition: int32(rec.Partition), Offset: rec.Offset,
	}
	if v.DuplicateOf != "" {
		r.Outcome = dedupev1.Outcome_OUTCOME_DUPLICATE
	}
	if sc := trace.SpanContextFromContext(rec.Context); sc.HasTraceID() {
		r.TraceId = sc.TraceID().String()
	}
	return r
}
