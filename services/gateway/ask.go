package gateway

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
)

const (
	maxVerifyBatch = 64      // the contract allows 1,024; more per call would only make everybody wait for the slowest
	maxVerifyBytes = 1 << 20 // of bodies; a larger one goes alone
	maxCheckBatch  = 4096    // the contract's bound
	// maxReceive bounds an answer of a service: the verifier answers a body with events that hold it up to twice.
	maxReceive = 64 << 20
)

// verified is the verifier's answer to one of a batch.
type verified struct {
	response *verifierv1.VerifyResponse
	err      error
	// by is the span under which the batch was asked.
	by trace.SpanContext
}

// verify asks the verifier about one delivery, together with the others that ask now.
func (s *Service) verify(ctx context.Context, req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
	ctx, span := s.startSpan(ctx, "verify")
	defer span.End()
	v, err := s.verifying.Do(ctx, req)
	link(span, v.by)
	if err = errors.Join(err, v.err); err != nil {
		span.RecordError(err)
		span.SetStatus(otelcodes.Error, "the verifier did not answer")
		return nil, fmt.Errorf("verify a delivery of %s: %w", req.GetSource(), err)
	}
	if !span.IsRecording() {
		return v.response, nil
	}
	span.SetAttributes(attribute.String("hookmesh.source", req.GetSource()), attribute.String("hookmesh.verdict", v.response.GetVerdict().String()), attribute.String("hookmesh.code", v.response.GetCode()),
		attribute.String("hookmesh.preset", v.response.GetPreset()), attribute.Int("hookmesh.secret_index", int(v.response.GetSecretIndex())))
	return v.response, nil
}

// startSpan starts a span inside the delivery's, or none if that one is not recorded: most are not, and a span costs time.
func (s *Service) startSpan(ctx context.Context, name string) (context.Context, trace.Span) {
	if parent := trace.SpanFromContext(ctx); parent.SpanContext().IsValid() && !parent.IsRecording() {
		return ctx, noop.Span{}
	}
	return s.tracer.Start(ctx, name)
}

// link shows in a follower's span under which span its question was asked.
func link(span trace.Span, by trace.SpanContext) {
	if by.IsValid() && !by.Equal(span.SpanContext()) {
		span.AddLink(trace.Link{SpanContext: by})
	}
}

// verifyBatch asks about several deliveries at once. If that fails for another reason than the verifier's absence, one of them
// may be the cause: then each is asked about alone, so that it takes nobody else down.
func (s *Service) verifyBatch(ctx context.Context, reqs []*verifierv1.VerifyRequest) ([]verified, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.VerifyTimeout)
	defer cancel()
	by := trace.SpanContextFromContext(ctx)
	out := make([]verified, len(reqs))
	if len(reqs) > 1 {
		res, err := s.deps.Verifier.VerifyBatch(ctx, &verifierv1.VerifyBatchRequest{Requests: reqs}, grpc.MaxCallRecvMsgSize(maxReceive))
		if err == nil && len(res.GetResponses()) == len(reqs) {
			for i, r := range res.GetResponses() {
				out[i] = verified{response: r, by: by}
			}
			return out, nil
		}
		if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled {
			return nil, err
		}
	}
	for i, req := range reqs {
		res, err := s.deps.Verifier.Verify(ctx, req, grpc.MaxCallRecvMsgSize(maxReceive))
		if status.Code(err) == codes.NotFound {
			res, err = &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE}, nil
		}
		out[i] = verified{response: res, err: err, by: by}
	}
	return out, nil
}

// duplicates asks dedupe which events were processed before: for each the id of the first, or "". If dedupe does not answer, none
// was: the verdict that counts falls when the event is consumed.
func (s *Service) duplicates(ctx context.Context, events []*eventv1.Event) []string {
	none := make([]string, len(events))
	if len(events) == 0 || len(events) > maxCheckBatch {
		return none
	}
	ctx, span := s.startSpan(ctx, "dedupe check")
	defer span.End()
	identities := make([]*eventv1.Event, len(events))
	for i, e := range events {
		identities[i] = identity(e)
	}
	of, err := s.checking.Do(ctx, identities)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(otelcodes.Error, "dedupe did not answer; the event goes on")
		return none
	}
	return of
}

// identity is what dedupe needs to know an event again.
func identity(e *eventv1.Event) *eventv1.Event {
	return &eventv1.Event{
		Id: e.GetId(), Source: e.GetSource(), DocumentId: e.GetDocumentId(), Action: e.GetAction(), IdempotencyKey: e.GetIdempotencyKey(),
		ContentHash: e.GetContentHash(), Ordering: e.GetOrdering(), Sequence: e.Sequence, Version: e.GetVersion(), //nolint:protogetter // presence matters
		OccurredAt: e.GetOccurredAt(), ReceivedAt: e.GetReceivedAt(), Origin: e.GetOrigin(), DedupeTtlSeconds: e.GetDedupeTtlSeconds(),
	}
}

// checkBatch asks for several deliveries at once.
func (s *Service) checkBatch(ctx context.Context, questions [][]*eventv1.Event) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CheckTimeout)
	defer cancel()
	var all []*eventv1.Event
	for _, q := range questions {
		all = append(all, q...)
	}
	res, err := s.deps.Dedupe.Check(ctx, &dedupev1.CheckRequest{Events: all})
	if err != nil {
		return nil, err
	}
	of := res.GetDuplicateOf()
	if len(of) != len(all) {
		return nil, fmt.Errorf("dedupe answered %d of %d events", len(of), len(all))
	}
	out := make([][]string, len(questions))
	for i, q := range questions {
		out[i], of = of[:len(q):len(q)], of[len(q):]
	}
	return out, nil
}

// size is how large a message is on the wire.
func size(m proto.Message) int { return proto.Size(m) }
