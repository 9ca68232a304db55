package embedder

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
	"github.com/hookmesh/hookmesh/services/embedder/extract"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Producer writes dead letters to Kafka.
type Producer interface {
	// Produce returns when all outputs are written durably. After an error any of them may have been.
	Produce(ctx context.Context, outputs []stage.Output) error
}

// Deps are what the service needs.
type Deps struct {
	Store     Store
	Model     embedding.Model
	Producer  Producer
	Telemetry telemetry.Telemetry
	// Rest, if not nil, is called after each job with the time that it took, so that workers can give way to requests.
	Rest func(ctx context.Context, took time.Duration)
	// Fetchers get documents, by source. A source without one has its content in its events. SetSources replaces them.
	Fetchers map[string]connector.Fetcher
	// Now is the clock.
	Now func() time.Time
	// Jitter draws a duration from 0 up to its argument; nil: by chance.
	Jitter func(time.Duration) time.Duration
}

// Config tunes the service.
type Config struct {
	// Workers is how many documents are worked on at once.
	Workers int
	// Retry is how failures are tried again; Retries say it for sources that have a policy of their own.
	Retry   Policy
	Retries map[string]Policy
	// Breaker says when an endpoint is left alone.
	Breaker BreakerConfig
	// MaxPending is how many jobs may wait before the stage stops reading; 0: 5,000.
	MaxPending int64
}

const (
	retention = 7 * 24 * time.Hour
)

func (c *Config) complete() {
	if c.MaxPending == 0 {
		c.MaxPending = 5000
	}
	if c.Retry == (Policy{}) {
		c.Retry = Policy{Tries: 3, First: time.Second, Longest: 5 * time.Minute}
	}
	if c.Breaker == (BreakerConfig{}) {
		c.Breaker = BreakerConfig{Failures: 5, First: 10 * time.Second, Longest: 10 * time.Minute}
	}
}

// Service is the embedder: a stage (Handle), workers (Run) and its gRPC API.
type Service struct {
	embedderv1.UnimplementedKnowledgeServiceServer
	embedderv1.UnimplementedEmbedderServiceServer
	deps     Deps
	cfg      Config
	sources  atomic.Pointer[sourceSettings]
	breakers *breakers
	taking   sync.Mutex // held by the worker that takes a job: what a probe allows is one job, not one per worker
	shared   time.Time  // when it was last asked what other embedders have found; guarded by taking
	keeping  sync.Mutex // held by who stores or reads what the breakers are
	seen     int64      // how many changes of kept breakers are taken in; guarded by keeping
	wake     chan struct{}
	extract  extract.Extractor
	tracer   trace.Tracer
	meters   meters
}

type meters struct {
	freshness        metric.Float64Histogram
	outcomes, chunks metric.Int64Counter
	retries, breaks  metric.Int64Counter
}

// New returns the service.
func New(deps Deps, cfg Config) (*Service, error) {
	cfg.complete()
	if deps.Jitter == nil {
		deps.Jitter = func(bound time.Duration) time.Duration { return rand.N(bound + 1) }
	}
	const scope = "github.com/hookmesh/hookmesh/services/embedder"
	s := &Service{deps: deps, cfg: cfg, breakers: newBreakers(cfg.Breaker, max(1, cfg.Workers)), seen: -1, wake: make(chan struct{}, 1), tracer: deps.Telemetry.Tracer(scope)}
	s.SetSources(deps.Fetchers, cfg.Retries)
	var errs []error
	meter := deps.Telemetry.Meter(scope)
	var err error
	s.meters.freshness, err = meter.Float64Histogram("hookmesh.freshness", metric.WithUnit("s"), metric.WithDescription("From the change at the source to searchable, by source."),
		metric.WithExplicitBucketBoundaries(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600))
	errs = append(errs, err)
	s.meters.outcomes, err = meter.Int64Counter("hookmesh.embedder.outcomes", metric.WithDescription("What became of changes, by source and outcome."))
	errs = append(errs, err)
	s.meters.retries, err = meter.Int64Counter("hookmesh.embedder.retries", metric.WithDescription("Failures after which a change is tried again, by source and whether it used up a try."))
	errs = append(errs, err)
	s.meters.breaks, err = meter.Int64Counter("hookmesh.embedder.breakers", metric.WithDescription("Breakers that opened or closed, by endpoint and state."))
	errs = append(errs, err)
	s.meters.chunks, err = meter.Int64Counter("hookmesh.embedder.chunks", metric.WithDescription("Chunks, by what was done: reused, new, removed."))
	errs = append(errs, err)
	errs = append(errs, s.measure(deps.Telemetry, scope))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Handle implements stage.Handler: the newest change of each document becomes its job.
func (s *Service) Handle(ctx context.Context, tx Tx, b stage.Batch) (stage.Result, error) {
	res := stage.Result{Committed: s.wakeUp}
	for _, rec := range b.Records {
		change, err := events.DecodeChange(rec.Value)
		if err != nil {
			out, derr := events.Dead(rec, "embedder", "RECORD_UNREADABLE", err, b.Now)
			if derr != nil {
				return res, derr
			}
			res.Outputs = append(res.Outputs, out)
			continue
		}
		var headers []stage.Header
		stage.Inject(rec.Context, &headers)
		id := change.GetEvent().GetId()
		superseded, stale, err := tx.Enqueue(ctx, change, headers, b.Now.Add(-headStart[change.GetEvent().GetOrigin()]))
		if err != nil {
			return res, fmt.Errorf("enqueue event %s: %w", id, err)
		}
		if stale && superseded == id {
			continue // the very same change again (a replay that was repeated): its record stays
		}
		record := &embedderv1.EventRecord{Id: id, Outcome: embedderv1.Outcome_OUTCOME_PENDING, DecidedAt: timestamppb.New(b.Now)}
		if stale {
			record.Outcome, record.Reason = embedderv1.Outcome_OUTCOME_SUPERSEDED, "a newer change of the document was there already"
		}
		if err := tx.SetRecord(ctx, record, b.Now); err != nil {
			return res, fmt.Errorf("record event %s: %w", id, err)
		}
		if superseded != "" {
			old := &embedderv1.EventRecord{Id: superseded, Outcome: embedderv1.Outcome_OUTCOME_SUPERSEDED, Reason: "event " + id + " took its place", DecidedAt: timestamppb.New(b.Now)}
			if err := tx.SetRecord(ctx, old, b.Now); err != nil {
				return res, fmt.Errorf("record event %s: %w", superseded, err)
			}
		}
	}
	return res, tx.Expire(ctx, b.Now.Add(-retention), 1000)
}

// headStart is by how much a change is due before others that came at the same time: somebody waits for what a webhook tells, and
// what was missed comes before what a poll or a backfill brings. It is bounded, so that nothing waits for ever.
var headStart = map[eventv1.Origin]time.Duration{
	eventv1.Origin_ORIGIN_WEBHOOK: 10 * time.Minute, eventv1.Origin_ORIGIN_REPLAY: 10 * time.Minute, eventv1.Origin_ORIGIN_DEBT: 5 * time.Minute,
}

// Gate blocks while too much work waits, so that the backlog stays in Kafka. Documents of a source that is left alone do not
// count: they must not keep those of all others waiting.
func (s *Service) Gate(ctx context.Context) error {
	for {
		waiting, _ := s.breakers.blocked(s.deps.Now())
		full, err := s.deps.Store.Backlog(ctx, s.cfg.MaxPending, waiting)
		if err != nil || !full {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *Service) count(ctx context.Context, source, outcome string) {
	s.meters.outcomes.Add(ctx, 1, metric.WithAttributes(attribute.String("source", source), attribute.String("outcome", outcome)))
}

// Search implements the API.
func (s *Service) Search(ctx context.Context, req *embedderv1.SearchRequest) (*embedderv1.SearchResponse, error) {
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = 10
	}
	if strings.TrimSpace(req.GetQuery()) == "" {
		return nil, status.Error(codes.InvalidArgument, "query is empty")
	}
	vectors, err := s.deps.Model.Embed(ctx, []string{req.GetQuery()})
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "the embedding model does not answer: %v", err)
	}
	results, err := s.deps.Store.Search(ctx, Query{Text: req.GetQuery(), Vector: vectors[0], Source: req.GetSource(), Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	return &embedderv1.SearchResponse{Results: results}, nil
}

// GetDocument implements the API.
func (s *Service) GetDocument(ctx context.Context, req *embedderv1.GetDocumentRequest) (*embedderv1.GetDocumentResponse, error) {
	doc, chunks, err := s.deps.Store.GetDocument(ctx, req.GetSource(), req.GetDocumentId(), req.GetIncludeChunks())
	if errors.Is(err, ErrNotFound) {
		return nil, status.Error(codes.NotFound, "nothing is known of this document")
	}
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	return &embedderv1.GetDocumentResponse{Document: doc, Chunks: chunks}, nil
}

// ListDocuments implements the API.
func (s *Service) ListDocuments(ctx context.Context, req *embedderv1.ListDocumentsRequest) (*embedderv1.ListDocumentsResponse, error) {
	limit := int(req.GetPageSize())
	if limit == 0 {
		limit = 100
	}
	token, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "page_token is not one of ours")
	}
	source, id, _ := strings.Cut(string(token), "/")
	docs, err := s.deps.Store.ListDocuments(ctx, req.GetSource(), source, id, limit+1)
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	res := &embedderv1.ListDocumentsResponse{Documents: docs}
	if len(docs) > limit {
		res.Documents = docs[:limit]
		last := docs[limit-1]
		res.NextPageToken = base64.RawURLEncoding.EncodeToString(kafka.DocumentKey(last.GetSource(), last.GetDocumentId()))
	}
	return res, nil
}

// GetEvent implements the API.
func (s *Service) GetEvent(ctx context.Context, req *embedderv1.GetEventRequest) (*embedderv1.GetEventResponse, error) {
	r, err := s.deps.Store.Event(ctx, req.GetId())
	if errors.Is(err, ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "the embedder has not seen event %q", req.GetId())
	}
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return &embedderv1.GetEventResponse{Event: r}, nil
}

// GetBacklog implements the API.
func (s *Service) GetBacklog(ctx context.Context, req *embedderv1.GetBacklogRequest) (*embedderv1.GetBacklogResponse, error) {
	waiting, _ := s.breakers.blocked(s.deps.Now())
	full, err := s.deps.Store.Backlog(ctx, req.GetLimit(), waiting)
	if err != nil {
		return nil, fmt.Errorf("look at the backlog: %w", err)
	}
	return &embedderv1.GetBacklogResponse{Full: full, Breakers: s.breakers.open()}, nil
}

// GetStatus implements the API.
func (s *Service) GetStatus(ctx context.Context, _ *embedderv1.GetStatusRequest) (*embedderv1.GetStatusResponse, error) {
	res := &embedderv1.GetStatusResponse{Model: s.deps.Model.Info().Name, Breakers: s.breakers.open()}
	for _, b := range res.GetBreakers() {
		if !b.GetModel() {
			res.BreakersOpen = append(res.BreakersOpen, b.GetEndpoint())
		}
	}
	var err error
	res.Pending, res.Retrying, res.Documents, res.Chunks, err = s.deps.Store.Status(ctx)
	return res, err
}
