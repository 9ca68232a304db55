package gateway

import (
	"context"
	"net/http"
	"net/textproto"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway/edge"
	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// ReceiveWebhook implements GatewayService. Every outcome is an answer with an HTTP status; it returns no error.
func (s *Service) ReceiveWebhook(ctx context.Context, req *gatewayv1.ReceiveWebhookRequest) (*gatewayv1.ReceiveWebhookResponse, error) {
	start := s.now()
	var (
		src *source
		a   *answer
		d   *verifierv1.VerifyRequest
	)
	in := arrivalFrom(ctx)
	if in != nil {
		src, d = in.src, arrived(in)
	} else if src, a = s.admit(req.GetSource(), nobody{}); a == nil {
		d = s.called(src, req)
	}
	if a == nil {
		a = s.receive(ctx, src, d)
	}
	s.finish(ctx, src, a, s.now().Sub(start))
	if in != nil {
		a.name(in.id)
	}
	return a.proto(), nil
}

// finish tells metrics and trace how a delivery ended.
func (s *Service) finish(ctx context.Context, src *source, a *answer, took time.Duration) {
	name := "unknown"
	if src != nil {
		name = src.name
	}
	s.meters.request(ctx, name, a.outcome, took)
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("hookmesh.source", name), attribute.String("hookmesh.outcome", a.outcome))
	}
}

// arrived describes a delivery for the verifier by the HTTP request that it came with.
func arrived(in *arrival) *verifierv1.VerifyRequest {
	r := in.request
	return &verifierv1.VerifyRequest{
		Source: in.src.name, Method: r.Method, Url: r.URL, Headers: r.Headers, Body: r.Body,
		ReceivedAt: timestamppb.New(r.ReceivedAt), RemoteAddress: r.RemoteAddress,
	}
}

// called describes a delivery by the message of a gRPC caller.
func (s *Service) called(src *source, req *gatewayv1.ReceiveWebhookRequest) *verifierv1.VerifyRequest {
	d := &verifierv1.VerifyRequest{
		Source: src.name, Method: req.GetMethod(), Url: edge.ValidURL(req.GetUrl()), Body: req.GetBody().GetData(), ReceivedAt: timestamppb.New(s.now()),
	}
	def(&d.Method, http.MethodPost)
	def(&d.Url, "/webhooks/"+src.name)
	hasType := false
	for _, h := range req.GetHeaders() {
		name := textproto.CanonicalMIMEHeaderKey(h.GetName())
		hasType = hasType || name == "Content-Type"
		d.Headers = append(d.Headers, &eventv1.Header{Name: name, Value: h.GetValue()})
	}
	if t := req.GetBody().GetContentType(); t != "" && !hasType {
		d.Headers = append(d.Headers, &eventv1.Header{Name: "Content-Type", Value: []byte(t)})
	}
	return d
}

// receive takes one admitted delivery to its answer.
func (s *Service) receive(ctx context.Context, src *source, d *verifierv1.VerifyRequest) *answer {
	leave, refused := s.enter(src)
	if refused != nil {
		return refused
	}
	defer leave()
	if int64(len(d.GetBody())) > s.cfg.MaxBodyBytes {
		return problemAnswer("too_large", problem.Problem{Status: http.StatusRequestEntityTooLarge, Code: problem.BodyTooLarge, Detail: "The body is too large."})
	}
	// The sender may hang up at any moment. What is authentic is kept nevertheless: it may not come again.
	// Each step has a timeout of its own; this one bounds how long it may wait for its turn.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*(s.cfg.VerifyTimeout+s.cfg.CheckTimeout+2*s.cfg.WriteTimeout))
	defer cancel()
	v, err := s.verify(ctx, d)
	if err != nil {
		s.tel.Logger.WarnContext(ctx, "a delivery was sent away because the verifier did not answer; its sender will try again", "source", src.name, "error", err)
		return unavailable("verifier_unavailable", problem.VerifierUnavailable, "The delivery could not be verified now. Send it again.")
	}
	if authentic(v) {
		src.heard.Add(1)
	}
	switch v.GetVerdict() {
	case verifierv1.Verdict_VERDICT_ACCEPTED, verifierv1.Verdict_VERDICT_QUARANTINED:
		return s.accept(ctx, src, d, v)
	case verifierv1.Verdict_VERDICT_CHALLENGE:
		return providerAnswer("challenge", v.GetResponse())
	case verifierv1.Verdict_VERDICT_IGNORED:
		return ignored(v)
	case verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE:
		return problemAnswer("unknown_source", problem.Problem{Status: http.StatusNotFound, Code: problem.UnknownSource, Detail: "There is no source of this name."})
	case verifierv1.Verdict_VERDICT_REJECTED:
		return s.reject(ctx, src, v)
	default:
		s.tel.Logger.ErrorContext(ctx, "the verifier gave a verdict that the gateway does not know; are both of the same version?", "source", src.name, "verdict", v.GetVerdict())
		return unavailable("verifier_unavailable", problem.VerifierUnavailable, "The delivery could not be verified now. Send it again.")
	}
}

// reject refuses what is not authentic, or no longer fresh. What was authentic once is a debt.
func (s *Service) reject(ctx context.Context, src *source, v *verifierv1.VerifyResponse) *answer {
	s.tel.Logger.InfoContext(ctx, "a delivery was refused", "source", src.name, "code", v.GetCode(), "reason", v.GetReason(), "debt", v.GetDebt())
	if v.GetDebt() {
		d := debt{source: src.name, reason: reasonStale, at: s.now()}
		for _, ev := range v.GetEvents() {
			d.document, d.url = ev.GetDocumentId(), ev.GetContent().GetUrl()
			s.debts.add(d)
		}
		if len(v.GetEvents()) == 0 {
			s.debts.add(d)
		}
	}
	if v.GetResponse() != nil {
		return providerAnswer("rejected", v.GetResponse())
	}
	return rejected(v.GetCode())
}

// ignored answers what is authentic but concerns no document.
func ignored(v *verifierv1.VerifyResponse) *answer {
	if v.GetResponse() != nil {
		return providerAnswer("ignored", v.GetResponse())
	}
	reason := v.GetReason()
	def(&reason, v.GetCode())
	return reply{status: "ignored", reason: reason}.answer(http.StatusOK)
}
