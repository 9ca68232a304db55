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

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
)

const (
	maxVerifyBatch = 64      // the contract allows 1,024; more per call would only make everybody wait for the slowest
	maxVerifyBytes = 1 << 20 // of bodies; a larger one goes alone
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

// size is how large a message is on the wire.
func size(m proto.Message) int { return proto.Size(m) }
