package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Producer writes operators' commands to Kafka.
type Producer interface {
	// Produce returns when all outputs are written durably. After an error any of them may have been.
	Produce(ctx context.Context, outputs []stage.Output) error
}

// Service is the sequencer: a stage (Handle) and its gRPC API.
type Service struct {
	sequencerv1.UnimplementedSequencerServiceServer
	store    Store
	producer Producer
	cfg      Config
	now      func() time.Time
	tracer   trace.Tracer
	outcomes metric.Int64Counter
}

// Config tunes the service.
type Config struct {
	// EventRetention is how long the story of an event can be told; 0: 7 days.
	EventRetention time.Duration
	// MaxHeld bounds the events that wait for one document; 0: DefaultMaxHeld.
	MaxHeld int
	// MaxHeldTotal bounds the events that wait in one partition; 0: DefaultMaxHeldTotal. It may be exceeded by none: at the
	// bound, a document for which one more would wait gives up what it waits for.
	MaxHeldTotal int
	// TombstoneTTL is how long a deleted document or container is remembered; 0: DefaultTombstoneTTL.
	TombstoneTTL time.Duration
}

// New returns the service.
func New(store Store, producer Producer, cfg Config, tel telemetry.Telemetry, now func() time.Time) (*Service, error) {
	cfg.EventRetention = cmp.Or(cfg.EventRetention, 7*24*time.Hour)
	cfg.MaxHeld = cmp.Or(cfg.MaxHeld, DefaultMaxHeld)
	cfg.MaxHeldTotal = cmp.Or(cfg.MaxHeldTotal, DefaultMaxHeldTotal)
	cfg.TombstoneTTL = cmp.Or(cfg.TombstoneTTL, DefaultTombstoneTTL)
	const scope = "github.com/hookmesh/hookmesh/services/sequencer"
	outcomes, err := tel.Meter(scope).Int64Counter("hookmesh.sequencer.outcomes", metric.WithDescription("What the sequencer decided, by source and outcome."))
	if err != nil {
		return nil, fmt.Errorf("sequencer metrics: %w", err)
	}
	s := &Service{store: store, producer: producer, cfg: cfg, now: now, tracer: tel.Tracer(scope), outcomes: outcomes}
	return s, s.measure(tel, scope)
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
	res := &sequencerv1.GetDocumentResponse{Revision: st.Base + st.Revision, Deleted: st.Deleted, Gaps: st.Gaps, Containers: st.In}
	if st.Deleted && st.Forget != 0 {
		res.ForgottenAt = timestamppb.New(time.UnixMicro(st.Forget))
	}
	if st.HasLast {
		res.LastSequence = &st.Last
	}
	for _, h := range st.Held {
		res.Held = append(res.Held, h.Seq)
	}
	if len(st.Held) > 0 {
		res.Deadline = timestamppb.New(time.UnixMicro(st.Deadline()))
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
		g := &sequencerv1.Gap{Source: source, DocumentId: document, Held: int32(len(st.Held)), Missing: st.Missing(), MissingUntil: st.Held[0].Seq - 1}
		for mode, m := range modes {
			if m == st.Held[0].Mode {
				g.Ordering = mode
			}
		}
		g.Deadline = timestamppb.New(time.UnixMicro(st.Deadline()))
		res.Gaps = append(res.Gaps, g)
	}
	numbers, err := s.store.Numbers(ctx, req.GetSource())
	if err != nil {
		return nil, fmt.Errorf("list holes: %w", err)
	}
	for _, source := range slices.Sorted(maps.Keys(numbers)) {
		n := numbers[source]
		for i, span := range n.Spans {
			if len(res.GetGaps()) >= limit {
				return res, nil
			}
			g := &sequencerv1.Gap{Source: source, Missing: n.Upto + 1, MissingUntil: span.From - 1,
				Deadline: timestamppb.New(time.UnixMicro(span.Since + n.Gap)), Ordering: eventv1.OrderingMode_ORDERING_MODE_SOURCE_CONTIGUOUS}
			if i > 0 {
				g.Missing = n.Spans[i-1].To + 1
			}
			res.Gaps = append(res.Gaps, g)
		}
	}
	return res, nil
}
