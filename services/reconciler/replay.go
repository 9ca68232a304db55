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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
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
	// outputs are what it sends; their contexts are not set yet.
	outputs []stage.Output
}

// planReplay decides how a dead letter can be replayed. src is its source, or nil if that is not configured.
//
// A change goes to the embedder under the revision that it had: if something newer came since, the embedder drops it, so an
// older letter never overwrites a newer state, and a letter that is sent twice counts once. What never became a change has no
// place in the order; of it the source's current state is fetched, or, where nothing can be asked for it, its payload is read again.
func planReplay(d *eventv1.DeadLetter, src *Source, now time.Time) (replay, error) {
	if d.GetChange() != nil {
		c := proto.CloneOf(d.GetChange())
		if ev := c.GetEvent(); ev != nil && len(ev.GetPayload()) == 0 && len(ev.GetHeaders()) == 0 {
			ev.Payload, ev.Headers = d.GetPayload(), d.GetHeaders()
		}
		out, err := events.Output(kafka.TopicChanged, d.GetSource(), d.GetDocumentId(), c)
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_CHANGE, fmt.Sprintf("revision %d goes to the embedder again", c.GetRevision()), []stage.Output{out}}, err
	}
	if d.GetCode() == "RECORD_UNREADABLE" {
		key, ok := readable(d)
		if !ok {
			return impossible("its record still cannot be read")
		}
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_RECORD, "its record can be read now", []stage.Output{{Topic: d.GetTopic(), Key: key, Value: d.GetPayload()}}}, nil
	}
	switch {
	case src == nil:
		return impossible(fmt.Sprintf("source %q is not configured", d.GetSource()))
	case d.GetDocumentId() != "" && src.Fetcher != nil:
		ev := newEvent(*src, replayID(d, 0), d.GetDocumentId(), eventv1.Origin_ORIGIN_REPLAY, now)
		out, err := events.Output(kafka.TopicAccepted, d.GetSource(), d.GetDocumentId(), ev)
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_FETCH, "the document is fetched from its source", []stage.Output{out}}, err
	case src.Lister != nil:
		out, err := events.Output(kafka.TopicDebts, d.GetSource(), "", &eventv1.Debt{Source: d.GetSource(), Reason: "REPLAY", IncurredAt: timestamppb.New(now), EventId: d.GetId()})
		return replay{reconcilerv1.ReplayAction_REPLAY_ACTION_POLL, "its source is polled", []stage.Output{out}}, err
	}
	return impossible("no change was made of it, its source has neither a way to fetch documents nor a list of changes, and what was kept of it is no whole delivery")
}

func impossible(reason string) (replay, error) {
	return replay{action: reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE, reason: reason}, nil
}

// plan decides how a dead letter is replayed. A delivery that was kept whole is read again where its source cannot be asked for
// documents, and wherever that tells which documents it is about; else it is as planReplay says.
func (s *Service) plan(ctx context.Context, d *eventv1.DeadLetter) (replay, error) {
	var src *Source
	if p := s.source(d.GetSource()); p != nil {
		src = &p.src
	}
	whole := d.GetChange() == nil && d.GetCode() != "RECORD_UNREADABLE" && d.GetAssurance() != eventv1.Assurance_ASSURANCE_UNSPECIFIED
	fetchable := src != nil && src.Fetcher != nil && d.GetDocumentId() != ""
	if src == nil || !whole || fetchable || s.deps.Verifier == nil {
		return planReplay(d, src, s.deps.Now())
	}
	p, err := s.planPayload(ctx, d)
	if err == nil && p.action == reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE && src.Lister != nil && src.Fetcher != nil {
		return planReplay(d, src, s.deps.Now())
	}
	return p, err
}

// planPayload reads the delivery of a dead letter again.
func (s *Service) planPayload(ctx context.Context, d *eventv1.DeadLetter) (replay, error) {
	body := d.GetDelivery()
	if len(body) == 0 {
		body = d.GetPayload()
	}
	res, err := s.deps.Verifier.Understand(ctx, &verifierv1.UnderstandRequest{Assurance: d.GetAssurance(), Request: &verifierv1.VerifyRequest{
		Source: d.GetSource(), Method: d.GetMethod(), Url: d.GetUrl(), Headers: d.GetHeaders(), Body: body, ReceivedAt: d.GetReceivedAt(),
	}})
	switch {
	case status.Code(err) == codes.NotFound:
		return impossible(fmt.Sprintf("the verifier knows no source %q", d.GetSource()))
	case err != nil:
		return replay{}, fmt.Errorf("read its payload again: %w", err)
	}
	m := res.GetMeaning()
	if m.GetVerdict() != verifierv1.Verdict_VERDICT_ACCEPTED {
		return impossible(fmt.Sprintf("its payload was read again, and still makes no event: %s", m.GetReason()))
	}
	p := replay{action: reconcilerv1.ReplayAction_REPLAY_ACTION_PAYLOAD, reason: fmt.Sprintf("its payload can be understood now: %d event(s)", len(m.GetEvents()))}
	for i, ev := range m.GetEvents() {
		if newer, err := s.overtaken(ctx, d, ev); err != nil {
			return replay{}, err
		} else if newer {
			return impossible(fmt.Sprintf("document %s has changed since, and nothing in the payload tells which is newer", ev.GetDocumentId()))
		}
		ev.Id, ev.Origin, ev.Headers, ev.ReceivedAt = replayID(d, i), eventv1.Origin_ORIGIN_REPLAY, d.GetHeaders(), d.GetReceivedAt()
		out, err := events.Output(kafka.TopicAccepted, d.GetSource(), ev.GetDocumentId(), ev)
		if err != nil {
			return impossible(fmt.Sprintf("event %d of its payload cannot be written: %v", i+1, err))
		}
		p.outputs = append(p.outputs, out)
	}
	for _, debt := range m.GetDebts() {
		debt.Source, debt.IncurredAt, debt.EventId = d.GetSource(), timestamppb.New(s.deps.Now()), d.GetId()
		out, err := events.Output(kafka.TopicDebts, d.GetSource(), debt.GetDocumentId(), debt)
		if err != nil {
			return replay{}, err
		}
		p.outputs = append(p.outputs, out)
	}
	return p, nil
}

// overtaken says whether something newer of the document may be known than what a letter holds. Where the event has a position, the
// sequencer knows; in the order of arrival nothing else would keep an old letter from overwriting it.
func (s *Service) overtaken(ctx context.Context, d *eventv1.DeadLetter, ev *eventv1.Event) (bool, error) {
	if ev.GetOrdering() != eventv1.OrderingMode_ORDERING_MODE_ARRIVAL || !ev.GetContent().GetInline() && ev.GetAction() != eventv1.Action_ACTION_DELETED || s.deps.Knowledge == nil {
		return false, nil
	}
	res, err := s.deps.Knowledge.GetDocument(ctx, &embedderv1.GetDocumentRequest{Source: d.GetSource(), DocumentId: ev.GetDocumentId()})
	switch {
	case status.Code(err) == codes.NotFound:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look whether document %s is newer: %w", ev.GetDocumentId(), err)
	}
	return res.GetDocument().GetUpdatedAt().AsTime().After(d.GetFailedAt().AsTime()), nil
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

// replayID is the id of the event of that number which replays a letter: the same for the same failure, so that dedupe drops a second one. It is
// a UUIDv7 of the time of the failure.
func replayID(d *eventv1.DeadLetter, number int) string {
	at := d.GetFailedAt().AsTime()
	sum := sha256.Sum256(fmt.Appendf(nil, "replay\x00%s\x00%d\x00%d", d.GetId(), at.UnixNano(), number))
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
		plan, err := s.plan(ctx, d.Letter)
		if err != nil {
			return fmt.Errorf("replay dead letter %s: %w", d.Letter.GetId(), err)
		}
		r := &reconcilerv1.ReplayResult{Id: d.Letter.GetId(), Action: plan.action, Reason: plan.reason}
		res.Results = append(res.Results, r)
		if dryRun || plan.action == reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE {
			continue
		}
		var traced context.Context
		traced, r.TraceId = s.traceReplay(ctx, d)
		for i := range plan.outputs {
			plan.outputs[i].Context = traced
		}
		outputs, sent, results = append(outputs, plan.outputs...), append(sent, d), append(results, r)
	}
	if len(sent) == 0 {
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
