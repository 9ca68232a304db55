package reconciler

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

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

// Service is the reconciler.
type Service struct {
	reconcilerv1.UnimplementedReconcilerServiceServer
	deps     Deps
	sources  []*poller
	tracer   trace.Tracer
	produced metric.Int64Counter
	wake     chan struct{}
}

// New returns the service.
func New(deps Deps, sources []Source) (*Service, error) {
	const scope = "github.com/hookmesh/hookmesh/services/reconciler"
	s := &Service{deps: deps, tracer: deps.Telemetry.Tracer(scope), wake: make(chan struct{}, 1)}
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

// Debts is the stage that notes debts.
func (s *Service) Debts() stage.Handler[Tx] { return debtHandler{s} }

// DeadLetters is the stage that keeps dead letters.
func (s *Service) DeadLetters() stage.Handler[Tx] { return deadHandler{} }

type debtHandler struct{ *Service }

// Handle implements stage.Handler. A record that is no debt is dropped: there is nothing to pay.
func (h debtHandler) Handle(ctx context.Context, tx Tx, b stage.Batch) (stage.Result, error) {
	for _, rec := range b.Records {
		d := &eventv1.Debt{}
		if err := proto.Unmarshal(rec.Value, d); err != nil || d.GetSource() == "" {
			h.deps.Telemetry.Logger.Error("a record of the debts' topic cannot be read", "partition", rec.Partition, "offset", rec.Offset)
			continue
		}
		if err := tx.AddDebt(ctx, d); err != nil {
			return stage.Result{}, fmt.Errorf("note debt: %w", err)
		}
	}
	return stage.Result{Committed: func() {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}}, nil
}

type deadHandler struct{}

// deadRetention is how long dead letters are kept.
const deadRetention = 30 * 24 * time.Hour

// Handle implements stage.Handler. What cannot be read is kept as it is: it is a dead letter after all.
func (deadHandler) Handle(ctx context.Context, tx Tx, b stage.Batch) (stage.Result, error) {
	for _, rec := range b.Records {
		d := &eventv1.DeadLetter{}
		if err := proto.Unmarshal(rec.Value, d); err != nil || d.GetId() == "" {
			d = &eventv1.DeadLetter{Id: fmt.Sprintf("%s-%d-%d", rec.Topic, rec.Partition, rec.Offset), Stage: "reconciler", Code: "RECORD_UNREADABLE",
				Error: "the record is no dead letter", Payload: rec.Value, FailedAt: timestamppb.New(b.Now), Topic: rec.Topic, Partition: int32(rec.Partition), Offset: rec.Offset}
		}
		if err := tx.AddDeadLetter(ctx, d); err != nil {
			return stage.Result{}, fmt.Errorf("keep dead letter %s: %w", d.GetId(), err)
		}
	}
	return stage.Result{}, tx.Expire(ctx, b.Now.Add(-deadRetention), 1000)
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

// ListDeadLetters implements the API.
func (s *Service) ListDeadLetters(ctx context.Context, req *reconcilerv1.ListDeadLettersRequest) (*reconcilerv1.ListDeadLettersResponse, error) {
	limit := int(req.GetPageSize())
	if limit == 0 {
		limit = 50
	}
	before := int64(0)
	if req.GetPageToken() != "" {
		raw, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
		if err == nil {
			before, err = strconv.ParseInt(string(raw), 10, 64)
		}
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, "page_token is not one of ours")
		}
	}
	letters, numbers, err := s.deps.Store.DeadLetters(ctx, req.GetSource(), before, limit+1)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	res := &reconcilerv1.ListDeadLettersResponse{DeadLetters: letters}
	if len(letters) > limit {
		res.DeadLetters = letters[:limit]
		res.NextPageToken = base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, numbers[limit-1], 10))
	}
	for _, d := range res.DeadLetters {
		d.Payload = nil
		if d.GetEvent() != nil {
			d.Event.Payload = nil
		}
	}
	return res, nil
}

// GetDeadLetter implements the API.
func (s *Service) GetDeadLetter(ctx context.Context, req *reconcilerv1.GetDeadLetterRequest) (*reconcilerv1.GetDeadLetterResponse, error) {
	d, err := s.deps.Store.DeadLetter(ctx, req.GetId())
	if errors.Is(err, ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "there is no dead letter %q", req.GetId())
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter: %w", err)
	}
	return &reconcilerv1.GetDeadLetterResponse{DeadLetter: d}, nil
}
