package reconciler

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
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
	// Disabled: it is neither polled nor are its debts paid, until it is enabled.
	Disabled bool
	// OrderingMode is what its versions are compared in.
	OrderingMode eventv1.OrderingMode
}

// Deps are what the service needs.
type Deps struct {
	Store     Store
	Producer  Producer
	Telemetry telemetry.Telemetry
	// Knowledge is asked what is known, for sweeps; nil: there are none.
	Knowledge embedderv1.KnowledgeServiceClient
	// Embedder is asked whether much work waits, so that sweeps and backfills leave room for live events; nil: they do not wait.
	Embedder embedderv1.EmbedderServiceClient
	// Verifier reads the payloads of dead letters again; nil: they cannot be replayed by their payload.
	Verifier verifierv1.VerifierServiceClient
	// Notify delivers alerts; nil: nobody is told.
	Notify func(ctx context.Context, target alert.Target, m alert.Message) error
	Now    func() time.Time
	// NewID makes the ids of events that polls, debts and sweeps put into the mesh; nil: UUIDs of version 7.
	NewID func() string
	// Jitter returns a random duration below a bound above 0; nil: an even one.
	Jitter func(bound time.Duration) time.Duration
}

func (d *Deps) complete() {
	if d.NewID == nil {
		d.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if d.Jitter == nil {
		d.Jitter = mathrand.N[time.Duration]
	}
}

// Config tunes the service.
type Config struct {
	// DeadRetention is how long dead letters are kept; 0: 30 days.
	DeadRetention time.Duration
	// Owner names this instance among those that share the sources. It should be the same after a restart, so that a killed instance
	// takes its own leases up again at once; empty: one that is unique to this start.
	Owner string
	// LeaseTTL is how long a source stays an instance's without a sign of life; 0: 15 s.
	LeaseTTL time.Duration
	// Alerts are who is told of incidents; AlertPolicy says how often.
	Alerts      []alert.Target
	AlertPolicy alert.Policy
	// BackfillPending is how many changes may wait at the embedder while a backfill or a sweep goes on; 0: 200.
	BackfillPending int64
	// BackfillPerSecond bounds the changes per second of a backfill or a sweep; 0: 500; negative: nothing bounds them.
	BackfillPerSecond float64
}

func (c *Config) complete() {
	if c.DeadRetention == 0 {
		c.DeadRetention = 30 * 24 * time.Hour
	}
	if c.Owner == "" {
		c.Owner = rand.Text()
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 15 * time.Second
	}
	if c.BackfillPending == 0 {
		c.BackfillPending = 200
	}
	if c.BackfillPerSecond == 0 {
		c.BackfillPerSecond = 500
	}
}

// Service is the reconciler.
type Service struct {
	reconcilerv1.UnimplementedReconcilerServiceServer
	deps    Deps
	cfg     Config
	sources atomic.Pointer[[]*poller]
	changed chan struct{} // sources was replaced
	tracer  trace.Tracer
	meters  *meters
	// owner names this instance among those that share the sources.
	owner string
	// pace bounds sweeps and backfills, all sources together.
	pace *rate.Limiter
	wake chan struct{}
}

// New returns the service.
func New(deps Deps, cfg Config, sources []Source) (*Service, error) {
	cfg.complete()
	deps.complete()
	const scope = "github.com/hookmesh/hookmesh/services/reconciler"
	s := &Service{deps: deps, cfg: cfg, owner: cfg.Owner, tracer: deps.Telemetry.Tracer(scope), wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), pace: rate.NewLimiter(rate.Inf, 0)}
	if cfg.BackfillPerSecond > 0 {
		s.pace = rate.NewLimiter(rate.Limit(cfg.BackfillPerSecond), max(healBatch, int(cfg.BackfillPerSecond)))
	}
	var err error
	if s.meters, err = newMeters(deps.Telemetry.Meter(scope)); err != nil {
		return nil, fmt.Errorf("reconciler metrics: %w", err)
	}
	s.sources.Store(&[]*poller{})
	s.SetSources(sources)
	return s, s.measure(deps.Telemetry, scope)
}

// Run takes care of the instance's share of the sources and pays their debts until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.share(ctx) })
	wg.Go(func() { s.payDebts(ctx) })
	if s.deps.Notify != nil && len(s.cfg.Alerts) > 0 {
		wg.Go(func() { s.watch(ctx) })
	}
	wg.Wait()
	return nil
}

// count counts changes that were put into the mesh.
func (p *poller) count(ctx context.Context, n int, origin string) {
	p.meters.produced.Add(ctx, int64(n), metric.WithAttributes(attribute.String("source", p.src.Name), attribute.String("origin", origin)))
}

// room waits until n more changes of background work may go into the mesh: live events come first.
func (s *Service) room(ctx context.Context, n int) error {
	for n > 0 { // a wait cannot be for more than the bucket holds
		part := n
		if s.pace.Limit() != rate.Inf {
			part = min(n, s.pace.Burst())
		}
		if err := s.pace.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	for s.deps.Embedder != nil {
		res, err := s.deps.Embedder.GetBacklog(ctx, &embedderv1.GetBacklogRequest{Limit: s.cfg.BackfillPending})
		if err == nil && !res.GetFull() {
			break
		}
		sleep(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// PollSource implements the API.
func (s *Service) PollSource(ctx context.Context, req *reconcilerv1.PollSourceRequest) (*reconcilerv1.PollSourceResponse, error) {
	p := s.source(req.GetSource())
	switch {
	case p == nil:
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	case p.src.Disabled:
		return nil, status.Errorf(codes.FailedPrecondition, "source %q is disabled", req.GetSource())
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
	for _, p := range s.pollers() {
		st, err := p.status(ctx)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", p.src.Name, err)
		}
		res.Sources = append(res.Sources, st)
	}
	return res, nil
}
