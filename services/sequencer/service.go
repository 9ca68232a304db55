package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Service is the sequencer: a stage (Handle) and its gRPC API.
type Service struct {
	sequencerv1.UnimplementedSequencerServiceServer
	store     Store
	retention time.Duration
	tracer    trace.Tracer
	outcomes  metric.Int64Counter
}

// Config tunes the service.
type Config struct {
	// EventRetention is how long the story of an event can be told; 0: 7 days.
	EventRetention time.Duration
}

// New returns the service.
func New(store Store, cfg Config, tel telemetry.Telemetry) (*Service, error) {
	if cfg.EventRetention == 0 {
		cfg.EventRetention = 7 * 24 * time.Hour
	}
	const scope = "github.com/hookmesh/hookmesh/services/sequencer"
	outcomes, err := tel.Meter(scope).Int64Counter("hookmesh.sequencer.outcomes", metric.WithDescription("What the sequencer decided, by source and outcome."))
	if err != nil {
		return nil, fmt.Errorf("sequencer metrics: %w", err)
	}
	return &Service{store: store, retention: cfg.EventRetention, tracer: tel.Tracer(scope), outcomes: outcomes}, nil
}

// GetDocument implements the API.
func (s *Service) GetDocument(ctx context.Context, req *sequencerv1.GetDocumentRequest) (*sequencerv1.GetDocumentResponse, error) {
	st, err := s.store.Document(ctx, string(kafka.DocumentKey(req.GetSource(), req.GetDocumentId())))
	if errors.Is(err, ErrNotFound) {
		return nil, status.Error(codes.NotFound, "no event of this document was seen")
	}
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	res := &sequencerv1.GetDocumentResponse{Revision: st.Revision, Deleted: st.Deleted, Gaps: st.Gaps}
	if st.HasLast {
		res.LastSequence = &st.Last
	}
	for _, h := range st.Held {
		res.Held = append(res.Held, h.Seq)
	}
	if len(st.Held) > 0 {
		res.Deadline = timestamppb.New(time.UnixMicro(st.Since + st.Held[0].Gap))
	}
	return res, nil
}

// GetEvent implements the API.
func (s *Service) GetEvent(ctx context.Context, req *sequencerv1.GetEventRequest) (*sequencerv1.GetEventResponse, error) {
	r, err := s.store.Event(ctx, req.GetId())
	if errors.Is(err, ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "the sequencer has not seen event %q", req.GetId())
	}
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return &sequencerv1.GetEventResponse{Event: r}, nil
}

// ListGaps implements the API.
func (s *Service) ListGaps(ctx context.Context, req *sequencerv1.ListGapsRequest) (*sequencerv1.ListGapsResponse, error) {
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = 50
	}
	states, keys, err := s.store.Waiting(ctx, req.GetSource(), limit)
	if err != nil {
		return nil, fmt.Errorf("list gaps: %w", err)
	}
	res := &sequencerv1.ListGapsResponse{}
	for _, key := range keys {
		st := states[key]
		source, document := splitKey(key)
		g := &sequencerv1.Gap{Source: source, DocumentId: document, Held: int32(len(st.Held)), Missing: st.Last + 1}
		for mode, m := range modes {
			if m == st.Held[0].Mode {
				g.Ordering = mode
			}
		}
		g.Deadline = timestamppb.New(time.UnixMicro(st.Since + st.Held[0].Gap))
		res.Gaps = append(res.Gaps, g)
	}
	return res, nil
}
