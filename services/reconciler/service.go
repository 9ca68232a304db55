package reconciler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Producer writes events to Kafka.
type Producer interface {
	// Produce returns when all outputs are written durably. After an error any of them may have been.
	Produce(ctx context.Context, outputs []stage.Output) error
}

// Source is what the reconciler knows of a source.
type Source struct {
	config.Source
	// Connector is what can be asked of it.
	connector.Connector
	// OrderingMode is what its versions are compared in.
	OrderingMode eventv1.OrderingMode
}

// Deps are what the service needs.
type Deps struct {
	Store     Store
	Producer  Producer
	Telemetry telemetry.Telemetry
	Now       func() time.Time
}

// Config tunes the service.
type Config struct {
	// DeadRetention is how long dead letters are kept; 0: 30 days.
	DeadRetention time.Duration
}

// Service is the reconciler.
type Service struct {
	reconcilerv1.UnimplementedReconcilerServiceServer
	deps     Deps
	cfg      Config
	sources  []*poller
	tracer   trace.Tracer
	produced metric.Int64Counter
	wake     chan struct{}
}

// New returns the service.
func New(deps Deps, cfg Config, sources []Source) (*Service, error) {
	if cfg.DeadRetention == 0 {
		cfg.DeadRetention = 30 * 24 * time.Hour
	}
	const scope = "github.com/hookmesh/hookmesh/services/reconciler"
	s := &Service{deps: deps, cfg: cfg, tracer: deps.Telemetry.Tracer(scope), wake: make(chan struct{}, 1)}
	var err error
	if s.produced, err = deps.Telemetry.Meter(scope).Int64Counter("hookmesh.reconciler.produced", metric.WithDescription("Changes that polls and debts put into the mesh, by source and origin.")); err != nil {
		return nil, fmt.Errorf("reconciler metrics: %w", err)
	}
	for _, src := range sources {
		s.sources = append(s.sources, &poller{Service: s, src: src})
	}
	return s, nil
}

// Run polls and pays until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, p := range s.sources {
		if p.src.Lister != nil {
			wg.Go(func() { p.run(ctx) })
		}
	}
	wg.Go(func() { s.payDebts(ctx) })
	wg.Wait()
	return nil
}

func (s *Service) source(name string) *poller {
	if i := slices.IndexFunc(s.sources, func(p *poller) bool { return p.src.Name == name }); i >= 0 {
		return s.sources[i]
	}
	return nil
}

// PollSource implements the API.
func (s *Service) PollSource(ctx context.Context, req *reconcilerv1.PollSourceRequest) (*reconcilerv1.PollSourceResponse, error) {
	p := s.source(req.GetSource())
	switch {
	case p == nil:
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	case p.src.Lister == nil:
		return nil, status.Errorf(codes.FailedPrecondition, "source %q has no list of changes: set poll.changes, or a connector that lists", req.GetSource())
	}
	listed, produced, err := p.poll(ctx, req.GetFull())
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "the poll failed: %v", err)
	}
	return &reconcilerv1.PollSourceResponse{Listed: listed, Produced: produced}, nil
}

// ListSources implements the API.
func (s *Service) ListSources(ctx context.Context, _ *reconcilerv1.ListSourcesRequest) (*reconcilerv1.ListSourcesResponse, error) {
	res := &reconcilerv1.ListSourcesResponse{}
	for _, p := range s.sources {
		st, err := p.status(ctx)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", p.src.Name, err)
		}
		res.Sources = append(res.Sources, st)
	}
	return res, nil
}
