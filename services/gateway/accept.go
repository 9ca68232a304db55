package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	// maxDocumentID is the contract's bound in bytes.
	maxDocumentID = 2048
	// recordMargin is what a record may hold besides the body.
	recordMargin = 1 << 20
	// recordOverhead is what a record of the broker needs besides key and value: framing and headers.
	recordOverhead = 4 << 10
)

// acceptance collects what one authentic delivery becomes.
type acceptance struct {
	s        *Service
	delivery *verifierv1.VerifyRequest
	verdict  *verifierv1.VerifyResponse
	reply    reply
	outputs  []stage.Output
	spans    []trace.Span
	headers  []*eventv1.Header // see keptHeaders
}

// accept makes an authentic delivery durable and answers it.
func (s *Service) accept(ctx context.Context, src *source, d *verifierv1.VerifyRequest, v *verifierv1.VerifyResponse) *answer {
	a := &acceptance{s: s, delivery: d, verdict: v}
	defer a.end()
	if err := a.build(ctx); err != nil {
		s.tel.Logger.ErrorContext(ctx, "an authentic delivery could not be encoded", "source", src.name, "error", err)
		return unavailable("unavailable", problem.Unavailable, "The delivery could not be taken now. Send it again.")
	}
	if len(a.outputs) > 0 {
		if err := s.store(ctx, a.outputs); err != nil {
			a.owe(src)
			s.tel.Logger.ErrorContext(ctx, "an authentic delivery was sent away because neither Kafka nor the spool took it", "source", src.name, "error", err)
			return unavailable("storage_unavailable", problem.StorageUnavailable, "The delivery could not be stored now. Send it again.")
		}
	}
	return a.answer()
}

// build turns the verdict into records.
func (a *acceptance) build(ctx context.Context) error {
	events := a.verdict.GetEvents()
	for i, of := range a.s.duplicates(ctx, events) {
		if err := a.event(ctx, events[i], of); err != nil {
			return err
		}
	}
	for _, d := range a.verdict.GetDebts() {
		if err := a.owed(ctx, d); err != nil {
			return err
		}
	}
	items := a.verdict.GetQuarantined()
	if a.verdict.GetVerdict() == verifierv1.Verdict_VERDICT_QUARANTINED && len(items) == 0 {
		items = []*verifierv1.QuarantinedItem{{Whole: true, Payload: a.delivery.GetBody(), Code: a.verdict.GetCode(), Reason: a.verdict.GetReason()}}
	}
	for _, item := range items {
		id, err := a.s.deps.NewID(ctx)
		if err != nil {
			return err
		}
		if err := a.dead(ctx, deadLetter{id: id, code: item.GetCode(), reason: item.GetReason(), payload: item.GetPayload(), delivery: item.GetDelivery(), whole: item.GetWhole()}); err != nil {
			return err
		}
	}
	return nil
}

// owed adds what the delivery says is to be fetched. It is as durable as an event: nothing else tells of the change.
func (a *acceptance) owed(ctx context.Context, d *eventv1.Debt) error {
	d.Source, d.IncurredAt, d.DocumentId = a.delivery.GetSource(), timestamppb.New(a.s.now()), clean(d.GetDocumentId())
	value, err := proto.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a debt of %s: %w", d.GetSource(), err)
	}
	a.outputs = append(a.outputs, stage.Output{Topic: kafka.TopicDebts, Key: kafka.DocumentKey(d.GetSource(), d.GetDocumentId()), Value: value, Context: ctx})
	a.s.meters.debt(ctx, d.GetSource(), d.GetReason())
	return nil
}

// event gives an event its id and a record, unless it was processed before.
func (a *acceptance) event(ctx context.Context, e *eventv1.Event, duplicateOf string) error {
	if duplicateOf != "" {
		a.reply.events = append(a.reply.events, replyEvent{id: duplicateOf, documentID: e.GetDocumentId(), duplicateOf: duplicateOf})
		return nil
	}
	id, err := a.s.deps.NewID(ctx)
	if err != nil {
		return err
	}
	e.Id, e.Source, e.Origin, e.ReceivedAt = id, a.delivery.GetSource(), eventv1.Origin_ORIGIN_WEBHOOK, a.delivery.GetReceivedAt()
	def(&e.Preset, a.verdict.GetPreset())
	def(&e.SecretIndex, max(a.verdict.GetSecretIndex(), 0))
	e.Headers = a.keptHeaders()
	if reason := flaw(e); reason != "" {
		return a.dead(ctx, deadLetter{id: id, code: "INVALID_EVENT", reason: reason, document: e.GetDocumentId(), payload: payloadOf(e)})
	}
	value, err := proto.Marshal(e)
	if err != nil {
		return a.dead(ctx, deadLetter{id: id, code: "INVALID_EVENT", reason: "it cannot be encoded: " + err.Error(), payload: payloadOf(e)})
	}
	key := kafka.DocumentKey(e.GetSource(), e.GetDocumentId())
	if n := len(key) + len(value) + recordOverhead; n > a.s.cfg.MaxRecordBytes {
		return a.dead(ctx, deadLetter{id: id, code: "RECORD_TOO_LARGE", document: e.GetDocumentId(), payload: payloadOf(e),
			reason: fmt.Sprintf("the event has %d bytes, and the broker takes %d", n, a.s.cfg.MaxRecordBytes)})
	}
	a.add(ctx, "accept event", stage.Output{Topic: kafka.TopicAccepted, Key: key, Value: value}, id, e.GetDocumentId(), attribute.String("hookmesh.action", e.GetAction().String()))
	a.reply.events = append(a.reply.events, replyEvent{id: id, documentID: e.GetDocumentId()})
	return nil
}

// add adds a record, with a span of its own if the trace is recorded.
func (a *acceptance) add(ctx context.Context, name string, out stage.Output, id, document string, more ...attribute.KeyValue) {
	if trace.SpanFromContext(ctx).IsRecording() {
		var span trace.Span
		ctx, span = a.s.tracer.Start(ctx, name, trace.WithAttributes(append(more,
			attribute.String("hookmesh.event.id", id), attribute.String("hookmesh.source", a.delivery.GetSource()),
			attribute.String("hookmesh.document.id", document), attribute.String("hookmesh.preset", a.verdict.GetPreset()), stage.DocumentHash(out.Key))...))
		a.spans = append(a.spans, span)
	}
	out.Context = ctx
	a.outputs = append(a.outputs, out)
}

func (a *acceptance) end() {
	for _, span := range a.spans {
		span.End()
	}
}

// flaw says what the rest of the mesh could not live with in an event; empty: nothing.
func flaw(e *eventv1.Event) string {
	switch n := len(e.GetDocumentId()); {
	case n == 0:
		return "it names no document"
	case n > maxDocumentID:
		return fmt.Sprintf("the document's id has %d bytes, at most %d are allowed", n, maxDocumentID)
	case e.GetAction() == eventv1.Action_ACTION_UNSPECIFIED:
		return "it does not say what happened"
	}
	return ""
}

// payloadOf is what is kept of an event that goes no further: its payload, or its content if that is all that it carries. The body
// itself may hold credentials that the preset takes out.
func payloadOf(e *eventv1.Event) []byte {
	if p := e.GetPayload(); len(p) > 0 {
		return p
	}
	return []byte(e.GetContent().GetText())
}

// owe remembers that an authentic delivery was sent away.
func (a *acceptance) owe(src *source) {
	d := debt{source: src.name, reason: reasonSpoolFull, at: a.s.now()}
	if len(a.reply.events) == 0 || len(a.reply.quarantined)+len(a.verdict.GetDebts()) > 0 {
		a.s.debts.add(d)
		return
	}
	for i, ev := range a.reply.events {
		if ev.duplicateOf != "" {
			continue
		}
		d.url = a.verdict.GetEvents()[i].GetContent().GetUrl()
		if d.document, d.event = ev.documentID, ev.id; a.verdict.GetEvents()[i].GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED {
			d.document, d.url = "", "" // fetching the container would not tell what of it is gone
		}
		a.s.debts.add(d)
	}
}

// answer says what became of the delivery.
func (a *acceptance) answer() *answer {
	fresh := 0
	for _, e := range a.reply.events {
		if e.duplicateOf == "" {
			fresh++
		}
	}
	status := http.StatusAccepted
	switch {
	case len(a.reply.quarantined) > 0:
		a.reply.status = "quarantined"
	case fresh > 0 || len(a.verdict.GetDebts()) > 0:
		a.reply.status = "accepted"
	case len(a.reply.events) > 0:
		a.reply.status, status = "duplicate", http.StatusOK
	default:
		a.reply.status, a.reply.reason, status = "ignored", "the delivery holds no event", http.StatusOK
	}
	if r := a.verdict.GetResponse(); r != nil {
		return providerAnswer(a.reply.status, r)
	}
	return a.reply.answer(status)
}

// newID gives out ids that sort by time.
func newID(context.Context) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", errors.Join(errors.New("no randomness for an id"), err)
	}
	return id.String(), nil
}

// deadLetter is what could not become an event.
type deadLetter struct {
	id, code, reason, document string
	payload, delivery          []byte
	whole                      bool // payload is all of the delivery
}

// dead adds a dead letter.
func (a *acceptance) dead(ctx context.Context, l deadLetter) error {
	def(&l.code, "NOT_UNDERSTOOD")
	letter := &eventv1.DeadLetter{
		Id: l.id, Source: a.delivery.GetSource(), Stage: "verifier", Code: l.code, Error: clean(l.reason), Attempts: 1,
		FailedAt: timestamppb.New(a.s.now()), Payload: l.payload, Headers: redact(a.delivery.GetHeaders(), a.verdict.GetRedactedHeaders()),
		Method: a.delivery.GetMethod(), Url: redactURL(a.delivery.GetUrl(), a.verdict.GetRedactedParameters()), ReceivedAt: a.delivery.GetReceivedAt(),
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		letter.TraceId, letter.SpanId = sc.TraceID().String(), sc.SpanID().String()
	}
	if letter.Delivery = l.delivery; l.whole || len(l.delivery) > 0 {
		letter.Assurance = a.verdict.GetAssurance()
	}
	if len(l.document) <= maxDocumentID {
		letter.DocumentId = clean(l.document)
	}
	fit(letter, a.s.cfg.MaxRecordBytes-recordOverhead-maxDocumentID)
	value, err := proto.Marshal(letter)
	if err != nil {
		return fmt.Errorf("encode dead letter %s: %w", l.id, err)
	}
	a.add(ctx, "quarantine", stage.Output{Topic: kafka.TopicDead, Key: kafka.DocumentKey(letter.GetSource(), l.id), Value: value}, l.id, letter.GetDocumentId(), attribute.String("hookmesh.code", l.code))
	a.reply.quarantined = append(a.reply.quarantined, replyQuarantined{id: l.id, code: l.code})
	return nil
}

// fit makes a dead letter small enough for the broker: without headers, and at last with a part of the payload.
func fit(l *eventv1.DeadLetter, limit int) {
	if size(l) <= limit {
		return
	}
	l.Headers, l.Url, l.Delivery = nil, "", nil
	l.Assurance = eventv1.Assurance_ASSURANCE_UNSPECIFIED // what is left is not the whole delivery
	if over := size(l) - limit; over > 0 {
		keep := max(0, len(l.GetPayload())-over-256)
		l.Error += fmt.Sprintf(" (the payload of %d bytes is cut to %d)", len(l.GetPayload()), keep)
		l.Payload = l.GetPayload()[:keep]
	}
}
