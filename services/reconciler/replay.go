package reconciler

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// replayPage is how many dead letters are read and written at once.
const replayPage = 200

// replay is what a replay of a dead letter does.
type replay struct {
	action reconcilerv1.ReplayAction
	reason string
	// output is what it sends; its context is not set yet.
	output stage.Output
}

// planReplay decides how a dead letter can be replayed. src is its source, or nil if that is not configured.
//
// A change goes to the embedder under the revision that it had: if something newer came since, the embedder drops it, so an
// older letter never overwrites a newer state, and a letter that is sent twice counts once. What never became a change has no
// place in the order; of it the source's current state is fetched.
func planReplay(d *eventv1.DeadLetter, src *Source, now time.Time) (replay, error) {
	impossible := func(reason string) (replay, error) {
		return replay{action: reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE, reason: reason}, nil
	}
	if c := d.GetChange(); c != nil {
		out, err := events.Output(kafka.TopicChanged, d.GetSource(), d.GetDocumentId(), c)
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_CHANGE, fmt.Sprintf("revision %d goes to the embedder again", c.GetRevision()), out}, err
	}
	if d.GetCode() == "RECORD_UNREADABLE" {
		key, ok := readable(d)
		if !ok {
			return impossible("its record still cannot be read")
		}
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_RECORD, "its record can be read now", stage.Output{Topic: d.GetTopic(), Key: key, Value: d.GetPayload()}}, nil
	}
	switch {
	case src == nil:
		return impossible(fmt.Sprintf("source %q is not configured", d.GetSource()))
	case d.GetDocumentId() != "" && src.Fetcher != nil:
		ev := newEvent(*src, d.GetDocumentId(), eventv1.Origin_ORIGIN_REPLAY, now)
		ev.Id = replayID(d)
		out, err := events.Output(kafka.TopicAccepted, d.GetSource(), d.GetDocumentId(), ev)
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_FETCH, "the document is fetched from its source", out}, err
	case src.Lister != nil:
		out, err := events.Output(kafka.TopicDebts, d.GetSource(), "", &eventv1.Debt{Source: d.GetSource(), Reason: "REPLAY", IncurredAt: timestamppb.New(now), EventId: d.GetId()})
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_POLL, "its source is polled", out}, err
	}
	return impossible("no change was made of it, and its source has neither a way to fetch documents nor a list of changes")
}

// readable says whether a record that could not be read can be read by this version of the program, and under which key it goes.
func readable(d *eventv1.DeadLetter) ([]byte, bool) {
	var ev *eventv1.Event
	var err error
	switch d.GetTopic() {
	case kafka.TopicAccepted, kafka.TopicUnique:
		ev, err = events.Decode(d.GetPayload())
	case kafka.TopicChanged:
		var c *eventv1.Change
		c, err = events.DecodeChange(d.GetPayload())
		ev = c.GetEvent()
	default:
		return nil, false
	}
	if err != nil {
		return nil, false
	}
	return kafka.DocumentKey(ev.GetSource(), ev.GetDocumentId()), true
}

// replayID is the id of the event that replays a letter: the same for the same failure, so that dedupe drops a second one. It is
// a UUIDv7 of the time of the failure.
func replayID(d *eventv1.DeadLetter) string {
	at := d.GetFailedAt().AsTime()
	sum := sha256.Sum256(fmt.Appendf(nil, "replay\x00%s\x00%d", d.GetId(), at.UnixNano()))
	var id uuid.UUID
	copy(id[:], sum[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())) //nolint:gosec // a time after 1970
	copy(id[:6], ms[2:])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id.String()
}

// ReplayDeadLetters implements the API.
func (s *Service) ReplayDeadLetters(ctx context.Context, req *reconcilerv1.ReplayDeadLettersRequest) (*reconcilerv1.ReplayDeadLettersResponse, error) {
	f, err := openLetters(req.GetFilter(), req.GetAll())
	if err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = 1000
	}
	res := &reconcilerv1.ReplayDeadLettersResponse{}
	for after := int64(0); ; {
		n := min(replayPage, limit-len(res.Results)+1)
		letters, err := s.deps.Store.OldestDeadLetters(ctx, f, after, n)
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		if room := limit - len(res.Results); len(letters) > room {
			letters, res.More = letters[:room], true
		}
		if err := s.replay(ctx, letters, req.GetDryRun(), res); err != nil {
			return nil, err
		}
		if len(letters) < n {
			return res, nil
		}
		after = letters[len(letters)-1].Number
	}
}

// replay sends letters, then closes them: after a crash in between they are sent again, which changes nothing.
func (s *Service) replay(ctx context.Context, letters []DeadLetter, dryRun bool, res *reconcilerv1.ReplayDeadLettersResponse) error {
	var outputs []stage.Output
	var sent []DeadLetter
	var results []*reconcilerv1.ReplayResult
	for _, d := range letters {
		var src *Source
		if p := s.source(d.Letter.GetSource()); p != nil {
			src = &p.src
		}
		plan, err := planReplay(d.Letter, src, s.deps.Now())
		if err != nil {
			return fmt.Errorf("replay dead letter %s: %w", d.Letter.GetId(), err)
		}
		r := &reconcilerv1.ReplayResult{Id: d.Letter.GetId(), Action: plan.action, Reason: plan.reason}
		res.Results = append(res.Results, r)
		if dryRun || plan.action == reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE {
			continue
		}
		plan.output.Context, r.TraceId = s.traceReplay(ctx, d)
		outputs, sent, results = append(outputs, plan.output), append(sent, d), append(results, r)
	}
	if len(outputs) == 0 {
		return nil
	}
	if err := s.deps.Producer.Produce(ctx, outputs); err != nil {
		return fmt.Errorf("write %d replays: %w", len(outputs), err)
	}
	for i, d := range sent {
		if _, err := s.deps.Store.ResolveDeadLetter(ctx, d.Number, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED, results[i].GetTraceId(), s.deps.Now()); err != nil {
			return fmt.Errorf("close dead letter %s: %w", d.Letter.GetId(), err)
		}
	}
	return nil
}

// traceReplay begins the trace of a replay. It is a trace of its own, because the first may be days old, and links to the first.
func (s *Service) traceReplay(ctx context.Context, d DeadLetter) (context.Context, string) {
	opts := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)),
		trace.WithAttributes(attribute.String("hookmesh.dead_letter.id", d.Letter.GetId()), attribute.String("hookmesh.source", d.Letter.GetSource()),
			attribute.String("hookmesh.dead_letter.trace_id", d.Letter.GetTraceId()), attribute.Int("hookmesh.replay", int(d.Status.GetReplays())+1)),
	}
	traceID, err1 := trace.TraceIDFromHex(d.Letter.GetTraceId())
	spanID, err2 := trace.SpanIDFromHex(d.Letter.GetSpanId())
	if err1 == nil && err2 == nil {
		first := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, Remote: true})
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: first, Attributes: []attribute.KeyValue{attribute.String("hookmesh.link", "replays")}}))
	}
	traced, span := s.tracer.Start(ctx, "dead letter replay", opts...)
	defer span.End()
	id := ""
	if sc := span.SpanContext(); sc.HasTraceID() {
		id = sc.TraceID().String()
	}
	return trace.ContextWithSpanContext(context.Background(), trace.SpanContextFromContext(traced)), id
}
