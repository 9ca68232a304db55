// Package gateway is the edge of the mesh: it takes webhooks, answers them when they are safe, and tells what became of events.
//
// A delivery is verified by the verifier, asked about at dedupe, and written durably (Kafka or the local spool) before the
// sender hears 202. Nothing slow happens before the answer, and nothing authentic is dropped after it: what cannot be understood
// becomes a dead letter, what had to be refused for lack of room becomes a debt that the reconciler pays.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway/batch"
	"github.com/hookmesh/hookmesh/services/gateway/limit"
	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

const scope = "github.com/hookmesh/hookmesh/services/gateway"

// Producer writes records to Kafka durably (acks=all), in order per key. After an error any of them may have been written.
// It may be called by several goroutines.
type Producer interface {
	Produce(ctx context.Context, outputs []stage.Output) error
}

// Deps is what the gateway needs of others.
type Deps struct {
	Verifier   verifierv1.VerifierServiceClient
	Dedupe     dedupev1.DedupeServiceClient
	Sequencer  sequencerv1.SequencerServiceClient
	Embedder   embedderv1.EmbedderServiceClient
	Knowledge  embedderv1.KnowledgeServiceClient
	Reconciler reconcilerv1.ReconcilerServiceClient
	// Sources is served at /v1/sources; nil: it is not.
	Sources   sourcev1.SourceServiceClient
	Producer  Producer
	Telemetry telemetry.Telemetry
	// OpenAPI is served at /openapi.json; nil: nothing is.
	OpenAPI []byte
	// Access says who may use the API under /v1; nil: everybody.
	Access *access.Gate
	// Rest lets the drain of the spool give way to requests, after a piece of work that took so long; nil: it does not.
	Rest func(ctx context.Context, took time.Duration)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// NewID names an event or a dead letter of the delivery that ctx belongs to; nil: a UUID that sorts by time. No id may come twice.
	NewID func(ctx context.Context) (string, error)
	// Jitter draws how long the drain of the spool pauses after a failure, from 0 to bound; nil: at random.
	Jitter func(bound time.Duration) time.Duration
	// Disk is where the spool is kept; nil: Config.SpoolDir.
	Disk spool.Disk
}

func (d Deps) check() error {
	if d.Verifier == nil || d.Dedupe == nil || d.Sequencer == nil || d.Embedder == nil || d.Knowledge == nil || d.Reconciler == nil || d.Producer == nil {
		return errors.New("gateway: every client and the producer must be given")
	}
	return nil
}

// Service is the gateway. It implements GatewayService and EventService.
type Service struct {
	gatewayv1.UnimplementedGatewayServiceServer
	gatewayv1.UnimplementedEventServiceServer

	deps   Deps
	cfg    Config
	tel    telemetry.Telemetry
	tracer trace.Tracer
	// propagator writes traces into the spool's records.
	propagator propagation.TextMapPropagator
	now        func() time.Time
	meters     *meters
	sources    atomic.Pointer[table]
	spool      *spool.Spool
	debts      *ledger
	checks     checks

	verifying *batch.Batcher[*verifierv1.VerifyRequest, verified]
	checking  *batch.Batcher[[]*eventv1.Event, []string]
	producing *batch.Batcher[[]stage.Output, struct{}]

	started  atomic.Bool
	inFlight atomic.Int64
	places   atomic.Int64 // how many deliveries may be in work
	crowd    sync.Mutex   // guards limit
	limit    *limit.Limit
	stopping atomic.Bool
	idle     sync.WaitGroup // deliveries in work
	gate     sync.RWMutex   // between the start of a delivery and the end of the service
}

// New opens the spool and returns the gateway. Run has to be called, or Close.
func New(deps Deps, cfg Config) (*Service, error) {
	if err := errors.Join(deps.check(), cfg.complete()); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rest == nil {
		deps.Rest = func(context.Context, time.Duration) {}
	}
	if deps.NewID == nil {
		deps.NewID = newID
	}
	if deps.Jitter == nil {
		deps.Jitter = rand.N[time.Duration]
	}
	s := &Service{
		deps: deps, cfg: cfg, tel: deps.Telemetry.Named("gateway"), tracer: deps.Telemetry.Tracer(scope), propagator: telemetry.Propagator(), now: deps.Now,
		debts: newLedger(), limit: limit.New(limit.Config{Min: min(leastInFlight, cfg.MaxInFlight), Max: cfg.MaxInFlight, Target: cfg.TargetLatency}),
	}
	s.places.Store(int64(s.limit.Current()))
	s.sources.Store(newTable(cfg.Sources, cfg.Replicas, nil, !cfg.MoreSources))
	s.verifying = batch.New(batch.Config[*verifierv1.VerifyRequest]{
		Lanes: cfg.Lanes, MaxItems: maxVerifyBatch, MaxWeight: maxVerifyBytes, Weight: func(r *verifierv1.VerifyRequest) int { return len(r.GetBody()) },
		Patience: cfg.AskPatience,
	}, s.verifyBatch)
	s.checking = batch.New(batch.Config[[]*eventv1.Event]{
		Lanes: cfg.Lanes, MaxItems: maxCheckBatch, MaxWeight: maxCheckBatch, Weight: func(e []*eventv1.Event) int { return len(e) },
		Patience: cfg.AskPatience,
	}, s.checkBatch)
	s.producing = batch.New(batch.Config[[]stage.Output]{
		Lanes: produceLanes, MaxItems: maxProduceRecords, MaxWeight: maxProduceBytes, Weight: outputsSize,
	}, s.produceBatch)
	var err error
	if s.spool, err = spool.Open(cfg.SpoolDir, spool.Options{MaxBytes: cfg.SpoolBytes, Logger: s.tel.Logger, Disk: deps.Disk}); err != nil {
		return nil, err
	}
	if s.meters, err = newMeters(s); err != nil {
		return nil, errors.Join(fmt.Errorf("gateway: meters: %w", err), s.spool.Close())
	}
	return s, nil
}

// Run drains the spool into Kafka and writes debts until ctx ends. Then it refuses new deliveries, waits for those in work, and
// closes the spool. It can be called once.
func (s *Service) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("gateway: Run was called before")
	}
	var g errgroup.Group
	g.Go(func() error { s.drain(ctx); return nil })
	g.Go(func() error { s.payDebts(ctx); return nil })
	g.Go(func() error { s.tellHeard(ctx); return nil })
	err := g.Wait()
	s.stop()
	// The sheds of the last moment.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.WriteTimeout)
	defer cancel()
	return errors.Join(err, s.writeDebts(last), s.Close())
}

// stop refuses new deliveries and waits for those in work, for a bounded time.
func (s *Service) stop() {
	s.gate.Lock()
	s.stopping.Store(true)
	s.gate.Unlock()
	done := make(chan struct{})
	go func() { s.idle.Wait(); close(done) }()
	timer := time.NewTimer(s.cfg.ShutdownTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.tel.Logger.Warn("the gateway stops while deliveries are in work; their senders get an error and will try again", "in_flight", s.inFlight.Load())
	}
}

// Close closes the spool; Run does it itself. Afterwards deliveries are answered with 503.
func (s *Service) Close() error {
	s.stopping.Store(true)
	s.meters.close()
	return s.spool.Close()
}

// Healthy is nil while events can be made durable.
func (s *Service) Healthy() error {
	if s.stopping.Load() {
		return errors.New("the gateway is stopping")
	}
	return s.spool.Err()
}
