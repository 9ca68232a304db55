package dedupe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Service is dedupe: a stage (Handle) and its gRPC API.
type Service struct {
	dedupev1.UnimplementedDedupeServiceServer
	store     Store
	now       func() time.Time
	retention time.Duration
	outcomes  metric.Int64Counter
}

// Config tunes the service.
type Config struct {
	// EventRetention is how long the story of an event can be told; 0: 7 days.
	EventRetention time.Duration
}

// New returns the service.
func New(store Store, cfg Config, tel telemetry.Telemetry, now func() time.Time) (*Service, error) {
	if cfg.EventRetention == 0 {
		cfg.EventRetention = 7 * 24 * time.Hour
	}
	outcomes, err := tel.Meter("github.com/hookmesh/hookmesh/services/dedupe").Int64Counter("hookmesh.dedupe.outcomes",
		metric.WithDescription("What dedupe decided, by source and outcome."))
	if err != nil {
		return nil, fmt.Errorf("dedupe metrics: %w", err)
	}
	return &Service{store: store, now: now, retention: cfg.EventRetention, outcomes: outcomes}, nil
}

// Check implements the API.
func (s *Service) Check(ctx context.Context, req *dedupev1.CheckRequest) (*dedupev1.CheckResponse, error) {
	keys := make([]Key, len(req.GetEvents()))
	for i, ev := range req.GetEvents() {
		keys[i] = KeyOf(ev.GetSource(), ev.GetIdempotencyKey())
	}
	found, err := s.store.Lookup(ctx, keys, s.now())
	if err != nil {
		return nil, fmt.Errorf("look up %d keys: %w", len(keys), err)
	}
	res := &dedupev1.CheckResponse{DuplicateOf: make([]string, len(keys))}
	for i, first := range found {
		if first != nil && req.GetEvents()[i].GetIdempotencyKey() != "" {
			res.DuplicateOf[i] = first.EventID
		}
	}
	return res, nil
}

// GetEvent implements the API.
func (s *Service) GetEvent(ctx context.Context, req *dedupev1.GetEventRequest) (*dedupev1.GetEventResponse, error) {
	record, err := s.store.Event(ctx, req.GetId())
	if errors.Is(err, ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "dedupe has not seen event %q", req.GetId())
	}
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return &dedupev1.GetEventResponse{Event: record}, nil
}

// ListEvents implements the API.
func (s *Service) ListEvents(ctx context.Context, req *dedupev1.ListEventsRequest) (*dedupev1.ListEventsResponse, error) {
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = 50
	}
	records, err := s.store.Events(ctx, req.GetSource(), req.GetDocumentId(), limit)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return &dedupev1.ListEventsResponse{Events: records}, nil
}

// LookupKey implements the API.
func (s *Service) LookupKey(ctx context.Context, req *dedupev1.LookupKeyRequest) (*dedupev1.LookupKeyResponse, error) {
	found, err := s.store.Lookup(ctx, []Key{KeyOf(req.GetSource(), req.GetIdempotencyKey())}, s.now())
	if err != nil {
		return nil, fmt.Errorf("look up key: %w", err)
	}
	if found[0] == nil {
		return nil, status.Error(codes.NotFound, "no delivery under this key is remembered")
	}
	first, err := s.store.Event(ctx, found[0].EventID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read the first delivery: %w", err)
	}
	return &dedupev1.LookupKeyResponse{EventId: found[0].EventID, Partition: int32(found[0].Partition), Offset: found[0].Offset,
		ExpiresAt: timestamppb.New(found[0].Expires), First: first}, nil
}

// ForgetKey implements the API.
func (s *Service) ForgetKey(ctx context.Context, req *dedupev1.ForgetKeyRequest) (*dedupev1.ForgetKeyResponse, error) {
	ok, err := s.store.Forget(ctx, KeyOf(req.GetSource(), req.GetIdempotencyKey()))
	if err != nil {
		return nil, fmt.Errorf("forget key: %w", err)
	}
	return &dedupev1.ForgetKeyResponse{Forgotten: ok}, nil
}
