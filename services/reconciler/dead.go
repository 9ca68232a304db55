package reconciler

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// DeadLetters is the stage that keeps dead letters.
func (s *Service) DeadLetters() stage.Handler[Tx] { return deadHandler{s} }

type deadHandler struct{ *Service }

// Handle implements stage.Handler. What cannot be read is kept as it is: it is a dead letter after all.
func (h deadHandler) Handle(ctx context.Context, tx Tx, b stage.Batch) (stage.Result, error) {
	for _, rec := range b.Records {
		d := &eventv1.DeadLetter{}
		if err := proto.Unmarshal(rec.Value, d); err != nil || d.GetId() == "" {
			d = &eventv1.DeadLetter{Id: fmt.Sprintf("%s-%d-%d", rec.Topic, rec.Partition, rec.Offset), Stage: "reconciler", Code: "RECORD_UNREADABLE",
				Error: "the record is no dead letter", Payload: rec.Value, FailedAt: timestamppb.New(b.Now), Topic: rec.Topic, Partition: int32(rec.Partition), Offset: rec.Offset}
		}
		if d.GetFailedAt() == nil {
			d.FailedAt = timestamppb.New(b.Now)
		}
		if err := tx.AddDeadLetter(ctx, d); err != nil {
			return stage.Result{}, fmt.Errorf("keep dead letter %s: %w", d.GetId(), err)
		}
	}
	return stage.Result{}, tx.Expire(ctx, b.Now.Add(-h.cfg.DeadRetention), 1000)
}

// filterOf is a filter as the store knows it.
func filterOf(f *reconcilerv1.DeadLetterFilter) DeadFilter {
	out := DeadFilter{IDs: f.GetIds(), Source: f.GetSource(), Document: f.GetDocumentId(), Stage: f.GetStage(), Code: f.GetCode(), State: f.GetState()}
	if f.GetFailedAfter() != nil {
		out.From = f.GetFailedAfter().AsTime()
	}
	if f.GetFailedBefore() != nil {
		out.To = f.GetFailedBefore().AsTime()
	}
	return out
}

// openLetters is the filter of a call that changes something: only letters that are open, and everything only on purpose.
func openLetters(f *reconcilerv1.DeadLetterFilter, all bool) (DeadFilter, error) {
	const open = reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN
	out := filterOf(f)
	if st := out.State; st != open && st != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_UNSPECIFIED {
		return out, status.Error(codes.InvalidArgument, "only open dead letters can be replayed or discarded")
	}
	out.State = open
	if f.GetSource() == "" && f.GetDocumentId() != "" {
		return out, status.Error(codes.InvalidArgument, "document_id needs source")
	}
	everything := len(out.IDs) == 0 && out.Source == "" && out.Stage == "" && out.Code == "" && out.From.IsZero() && out.To.IsZero()
	if everything && !all {
		return out, status.Error(codes.InvalidArgument, "the filter selects every dead letter; set all if that is meant")
	}
	return out, nil
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
	f := filterOf(req.GetFilter())
	if req.GetSource() != "" {
		f.Source = req.GetSource()
	}
	letters, err := s.deps.Store.DeadLetters(ctx, f, before, limit+1)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	res := &reconcilerv1.ListDeadLettersResponse{}
	if len(letters) > limit {
		letters = letters[:limit]
		res.NextPageToken = base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, letters[limit-1].Number, 10))
	}
	for _, d := range letters {
		d.Letter.Payload, d.Letter.Delivery = nil, nil
		for _, ev := range []*eventv1.Event{d.Letter.GetEvent(), d.Letter.GetChange().GetEvent()} {
			if ev != nil {
				ev.Payload, ev.Content, ev.Headers = nil, nil, nil
			}
		}
		res.DeadLetters, res.Statuses = append(res.DeadLetters, d.Letter), append(res.Statuses, d.Status)
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
	return &reconcilerv1.GetDeadLetterResponse{DeadLetter: d.Letter, Status: d.Status}, nil
}

// DiscardDeadLetters implements the API.
func (s *Service) DiscardDeadLetters(ctx context.Context, req *reconcilerv1.DiscardDeadLettersRequest) (*reconcilerv1.DiscardDeadLettersResponse, error) {
	f, err := openLetters(req.GetFilter(), req.GetAll())
	if err != nil {
		return nil, err
	}
	res := &reconcilerv1.DiscardDeadLettersResponse{}
	if req.GetDryRun() {
		if res.Discarded, err = s.deps.Store.CountDeadLetters(ctx, f); err != nil {
			return nil, fmt.Errorf("count dead letters: %w", err)
		}
		return res, nil
	}
	for after := int64(0); ; {
		letters, err := s.deps.Store.OldestDeadLetters(ctx, f, after, replayPage)
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		for _, d := range letters {
			was, err := s.deps.Store.ResolveDeadLetter(ctx, d.Number, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED, "", s.deps.Now())
			if err != nil {
				return nil, fmt.Errorf("discard dead letter %s: %w", d.Letter.GetId(), err)
			}
			if was {
				res.Discarded++
			}
			after = d.Number
		}
		if len(letters) < replayPage {
			return res, nil
		}
	}
}
