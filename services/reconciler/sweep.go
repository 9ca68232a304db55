package reconciler

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/reconciler/listing"
)

const (
	driftState = "drift"
	// healBatch is how many changes a sweep writes at once.
	healBatch = 500
	// knownPage is how many known documents are asked for at once.
	knownPage = 1000
)

// sweepable says whether everything that the source has can be listed: by its sweeper, or from the beginning of a list that
// names deletions.
func (p *poller) sweepable() bool {
	return (p.src.Sweeper != nil || p.src.Lister != nil) && p.deps.Knowledge != nil
}

// runSweeps sweeps on schedule until ctx ends. Deletions that were withheld are looked at again sooner.
func (p *poller) runSweeps(ctx context.Context) {
	interval := p.src.Poll.SweepInterval
	if interval < 0 {
		return
	}
	for {
		last, err := p.lastDrift(ctx)
		if err != nil && ctx.Err() == nil {
			p.deps.Telemetry.Logger.Warn("the last drift report cannot be read", "source", p.src.Name, "error", err)
		}
		wait := p.deps.Jitter(min(interval, time.Hour) + 1)
		if last != nil {
			pause := interval
			if last.GetWithheld() > 0 || last.GetError() != "" {
				pause = max(interval/24, min(interval, time.Minute))
			}
			wait = max(0, last.GetFinishedAt().AsTime().Add(pause).Sub(p.deps.Now())) + p.deps.Jitter(pause/10+1)
		}
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		if _, polledAt, err := p.deps.Store.Cursor(ctx, p.src.Name); err != nil || polledAt.IsZero() {
			sleep(ctx, min(interval, time.Minute)) // its first reading is not over
			continue
		}
		if _, err := p.sweep(ctx, &reconcilerv1.SweepSourceRequest{}); err != nil && ctx.Err() == nil {
			p.deps.Telemetry.Logger.WarnContext(ctx, "a sweep was not completed; it removed nothing", "source", p.src.Name, "error", err)
			sleep(ctx, min(interval, time.Minute))
		}
	}
}

func (p *poller) lastDrift(ctx context.Context) (*reconcilerv1.DriftReport, error) {
	raw, err := p.deps.Store.State(ctx, driftState, p.src.Name)
	if err != nil || raw == nil {
		return nil, err
	}
	r := &reconcilerv1.DriftReport{}
	return r, proto.Unmarshal(raw, r)
}

// errSweeping says that a sweep is under way already.
var errSweeping = errors.New("a sweep of this source is under way")

// sweep compares the source with the knowledge base, heals, and keeps the report.
func (p *poller) sweep(ctx context.Context, req *reconcilerv1.SweepSourceRequest) (*reconcilerv1.DriftReport, error) {
	if !p.sweeping.TryLock() {
		return nil, errSweeping
	}
	defer p.sweeping.Unlock()
	ctx, span := p.tracer.Start(ctx, "reconciler.sweep", trace.WithAttributes(attribute.String("hookmesh.source", p.src.Name)))
	defer span.End()
	before, err := p.lastDrift(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the last report: %w", err)
	}
	r := &reconcilerv1.DriftReport{Source: p.src.Name, StartedAt: timestamppb.New(p.deps.Now()), DryRun: req.GetDryRun()}
	err = p.compareAndHeal(ctx, r, before, req)
	r.FinishedAt, r.Right = timestamppb.New(p.deps.Now()), right(r)
	if err != nil {
		span.RecordError(err)
		r.Error = err.Error()
	}
	p.meters.drift(ctx, r)
	if req.GetDryRun() || ctx.Err() != nil {
		return r, err
	}
	raw, merr := proto.Marshal(r)
	if merr == nil {
		merr = p.deps.Store.SetState(ctx, driftState, p.src.Name, raw)
	}
	return r, errors.Join(err, merr)
}

// compareAndHeal fills the report. Deletions come last, after both sides were read to their ends.
func (p *poller) compareAndHeal(ctx context.Context, r, before *reconcilerv1.DriftReport, req *reconcilerv1.SweepSourceRequest) (err error) {
	list, err := listing.New("")
	if err != nil {
		return err
	}
	gone, err := listing.New("")
	if err != nil {
		return errors.Join(err, list.Close())
	}
	defer func() { err = errors.Join(err, list.Close(), gone.Close()) }()
	if err := p.readAll(ctx, list); err != nil {
		return err
	}
	heal := &healer{poller: p, report: r}
	err = compare(list.Sorted(), p.known(ctx), r.GetStartedAt().AsTime(), r, func(f finding) error {
		switch {
		case req.GetDryRun():
			return nil
		case f.kind == extra:
			return gone.Add(listing.Entry{ID: f.id, URL: f.url})
		case p.src.Fetcher == nil:
			return nil // nothing but its own events brings this source's content
		}
		return heal.add(ctx, f.id, f.url, eventv1.Action_ACTION_UPDATED)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("compare: %w", err), heal.flush(ctx))
	}
	if !req.GetDryRun() && !daring(r, before, req.GetConfirmDeletions()) {
		r.Withheld = r.GetExtra()
		if r.GetExtra() > 0 {
			p.deps.Telemetry.Logger.ErrorContext(ctx, "a sweep found so many deletions that they are withheld until the next one finds them too, or somebody confirms them",
				"source", p.src.Name, "deletions", r.GetExtra(), "known", r.GetKnown(), "listed", r.GetListed())
		}
		return heal.flush(ctx)
	}
	// A list that is paged by offsets leaves documents out while others go. Where the source can be asked for a document itself, it has
	// the last word: what it says is gone is removed then.
	action := eventv1.Action_ACTION_DELETED
	if p.src.Fetcher != nil {
		action = eventv1.Action_ACTION_UPDATED
	}
	for e, err := range gone.Sorted() {
		if err != nil {
			return err
		}
		if err := heal.add(ctx, e.ID, e.URL, action); err != nil {
			return err
		}
	}
	return heal.flush(ctx)
}

// readAll reads the source's whole list. A list that ends in an error is none.
func (p *poller) readAll(ctx context.Context, into *listing.Sorter) error {
	read := p.src.Lister.List
	if p.src.Sweeper != nil {
		read = p.src.Sweeper.Sweep
	}
	for cursor := ""; ; {
		page, err := read(ctx, cursor)
		if err != nil {
			return fmt.Errorf("list all documents: %w", err)
		}
		for _, c := range page.Changes {
			if err := into.Add(listing.Entry{ID: c.DocumentID, Version: c.Version, URL: c.URL, Deleted: c.Deleted}); err != nil {
				return err
			}
		}
		switch {
		case !page.More:
			return nil
		case page.Next == "" || page.Next == cursor:
			return errors.New("list all documents: the source says that there is more, but not where")
		}
		cursor = page.Next
	}
}

// known yields what the knowledge base has of the source, by id.
func (p *poller) known(ctx context.Context) iter.Seq2[*embedderv1.Document, error] {
	return func(yield func(*embedderv1.Document, error) bool) {
		req := &embedderv1.ListDocumentsRequest{Source: p.src.Name, PageSize: knownPage}
		for {
			page, err := p.deps.Knowledge.ListDocuments(ctx, req)
			if err != nil {
				yield(nil, fmt.Errorf("list known documents: %w", err))
				return
			}
			for _, d := range page.GetDocuments() {
				if !yield(d, nil) {
					return
				}
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

// healer puts what differs into the mesh, in batches, and no faster than the embedder takes it.
type healer struct {
	*poller
	report  *reconcilerv1.DriftReport
	outputs []stage.Output
}

func (h *healer) add(ctx context.Context, id, url string, action eventv1.Action) error {
	ev := h.event(id, eventv1.Origin_ORIGIN_DEBT)
	ev.Action, ev.Content.Url = action, url
	out, err := h.output(ctx, ev)
	if err != nil {
		return err
	}
	if h.outputs = append(h.outputs, out); len(h.outputs) < healBatch {
		return nil
	}
	return h.flush(ctx)
}

func (h *healer) flush(ctx context.Context) error {
	if len(h.outputs) == 0 {
		return nil
	}
	if err := h.room(ctx, len(h.outputs)); err != nil {
		return err
	}
	if err := h.deps.Producer.Produce(ctx, h.outputs); err != nil {
		return fmt.Errorf("write %d changes: %w", len(h.outputs), err)
	}
	h.count(ctx, len(h.outputs), "sweep")
	h.report.Healed += int64(len(h.outputs))
	h.outputs = h.outputs[:0]
	return nil
}

// SweepSource implements the API.
func (s *Service) SweepSource(ctx context.Context, req *reconcilerv1.SweepSourceRequest) (*reconcilerv1.SweepSourceResponse, error) {
	p := s.source(req.GetSource())
	switch {
	case p == nil:
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	case !p.sweepable():
		return nil, status.Errorf(codes.FailedPrecondition, "source %q can be asked neither for a list of all documents nor for changes", req.GetSource())
	}
	r, err := p.sweep(ctx, req)
	switch {
	case errors.Is(err, errSweeping):
		return nil, status.Errorf(codes.Aborted, "a sweep of source %q is under way", req.GetSource())
	case err != nil && ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case err != nil && errors.Is(err, connector.ErrUnauthorized):
		return nil, status.Errorf(codes.FailedPrecondition, "the sweep failed: %v", err)
	case err != nil:
		return nil, status.Errorf(codes.Unavailable, "the sweep failed: %v", err)
	}
	return &reconcilerv1.SweepSourceResponse{Report: r}, nil
}

// ListDrift implements the API.
func (s *Service) ListDrift(ctx context.Context, req *reconcilerv1.ListDriftRequest) (*reconcilerv1.ListDriftResponse, error) {
	res := &reconcilerv1.ListDriftResponse{}
	for _, p := range s.pollers() {
		if req.GetSource() != "" && req.GetSource() != p.src.Name {
			continue
		}
		r, err := p.lastDrift(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the drift report of %s: %w", p.src.Name, err)
		}
		if r != nil {
			res.Reports = append(res.Reports, r)
		}
	}
	if req.GetSource() != "" && s.source(req.GetSource()) == nil {
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	}
	return res, nil
}
