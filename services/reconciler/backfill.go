package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
)

const (
	backfillState = "backfill"
	counting      = reconcilerv1.BackfillState_BACKFILL_STATE_COUNTING
	filling       = reconcilerv1.BackfillState_BACKFILL_STATE_RUNNING
	filled        = reconcilerv1.BackfillState_BACKFILL_STATE_DONE
)

// lastBackfill is what is kept of the source's backfill; nil: there was none.
func (p *poller) lastBackfill(ctx context.Context) (*reconcilerv1.Backfill, error) {
	raw, err := p.deps.Store.State(ctx, backfillState, p.src.Name)
	if err != nil || raw == nil {
		return nil, err
	}
	b := &reconcilerv1.Backfill{}
	return b, proto.Unmarshal(raw, b)
}

// moveBackfill keeps a backfill that has come further.
func (p *poller) moveBackfill(ctx context.Context, b *reconcilerv1.Backfill) error {
	b.MovedAt = timestamppb.New(p.deps.Now())
	return p.keepBackfill(ctx, b)
}

// keepBackfill keeps one that has not: an error is no progress.
func (p *poller) keepBackfill(ctx context.Context, b *reconcilerv1.Backfill) error {
	raw, err := proto.Marshal(b)
	if err != nil {
		return err
	}
	return p.deps.Store.SetState(ctx, backfillState, p.src.Name, raw)
}

// backfill returns the backfill that is under way; nil: none is. fresh: the source was never read to its end, so that nothing can
// be polled yet, and its backfill begins by itself.
func (p *poller) backfill(ctx context.Context) (b *reconcilerv1.Backfill, fresh bool, err error) {
	if b, err = p.lastBackfill(ctx); err != nil {
		return nil, false, err
	}
	_, polledAt, err := p.deps.Store.Cursor(ctx, p.src.Name)
	if err != nil {
		return nil, false, err
	}
	fresh = polledAt.IsZero()
	switch {
	case b != nil && b.GetState() != filled:
		return b, fresh, nil
	case fresh:
		b = p.newBackfill(false) // it is kept before it moves: what never comes to a first page is seen by that
		return b, true, p.keepBackfill(ctx, b)
	}
	return nil, false, nil
}

func (p *poller) newBackfill(count bool) *reconcilerv1.Backfill {
	now := timestamppb.New(p.deps.Now())
	b := &reconcilerv1.Backfill{Source: p.src.Name, State: filling, StartedAt: now, MovedAt: now}
	if count {
		b.State = counting
	}
	return b
}

// fill reads one page of a backfill. Where to go on is stored after its changes are in Kafka, so that a crash repeats a page at
// the most. At the end the source's polls go on from there, unless they have a cursor of their own.
func (p *poller) fill(ctx context.Context, b *reconcilerv1.Backfill) error {
	asked := p.deps.Now()
	page, err := p.src.Lister.List(ctx, b.GetCursor())
	if errors.Is(err, connector.ErrCursor) && b.GetCursor() != "" {
		b.Cursor, b.Read, b.Total = "", 0, 0
		return p.moveBackfill(ctx, b)
	}
	if err == nil && b.GetState() == filling {
		if err = p.room(ctx, len(page.Changes)); err == nil {
			err = p.produce(ctx, page.Changes, asked, "backfill")
		}
	}
	if err != nil {
		p.failed(ctx, "a page of a backfill could not be read; trying again", err)
		if ctx.Err() == nil && b.GetError() != err.Error() {
			b.Error = err.Error()
			err = errors.Join(err, p.keepBackfill(ctx, b))
		}
		return err
	}
	b.Error = ""
	n := int64(len(page.Changes))
	advanced := page.Next != "" && page.Next != b.GetCursor()
	if advanced {
		b.Cursor = page.Next
	}
	done := !page.More || !advanced
	if b.GetState() == counting {
		if b.Total += n; done {
			b.State, b.Cursor = filling, ""
		}
		return p.moveBackfill(ctx, b)
	}
	b.Read, b.Produced = b.Read+n, b.Produced+n
	if !done {
		return p.moveBackfill(ctx, b)
	}
	cursor, _, err := p.deps.Store.Cursor(ctx, p.src.Name)
	if err != nil {
		return err
	}
	if cursor == "" {
		cursor = b.GetCursor()
	}
	if err := p.deps.Store.SetCursor(ctx, p.src.Name, cursor, p.deps.Now()); err != nil {
		return fmt.Errorf("store cursor: %w", err)
	}
	b.State, b.Cursor, b.Total = filled, "", b.GetRead()
	p.deps.Telemetry.Logger.InfoContext(ctx, "a source was read from its beginning", "source", p.src.Name, "entries", b.GetRead(), "took", p.deps.Now().Sub(b.GetStartedAt().AsTime()).Round(time.Millisecond))
	return p.moveBackfill(ctx, b)
}

// StartBackfill implements the API.
func (s *Service) StartBackfill(ctx context.Context, req *reconcilerv1.StartBackfillRequest) (*reconcilerv1.StartBackfillResponse, error) {
	p := s.source(req.GetSource())
	switch {
	case p == nil:
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	case p.src.Lister == nil:
		return nil, status.Errorf(codes.FailedPrecondition, "source %q has no list of changes", req.GetSource())
	}
	b, err := p.lastBackfill(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the backfill of %s: %w", p.src.Name, err)
	}
	if b == nil || b.GetState() == filled {
		b = p.newBackfill(req.GetCount())
		if err := p.keepBackfill(ctx, b); err != nil {
			return nil, fmt.Errorf("begin the backfill of %s: %w", p.src.Name, err)
		}
	}
	p.wakeUp()
	return &reconcilerv1.StartBackfillResponse{Backfill: b}, nil
}

// GetBackfill implements the API.
func (s *Service) GetBackfill(ctx context.Context, req *reconcilerv1.GetBackfillRequest) (*reconcilerv1.GetBackfillResponse, error) {
	p := s.source(req.GetSource())
	if p == nil {
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	}
	b, err := p.lastBackfill(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the backfill of %s: %w", p.src.Name, err)
	}
	if b == nil {
		return nil, status.Errorf(codes.NotFound, "source %q has had no backfill", req.GetSource())
	}
	return &reconcilerv1.GetBackfillResponse{Backfill: b}, nil
}
