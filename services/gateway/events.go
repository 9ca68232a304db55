package gateway

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

const (
	maxEventID = 128
	maxListed  = 1000
)

// GetEvent implements EventService: it asks all services at once. A service that does not answer leaves a hole, which the summary names.
func (s *Service) GetEvent(ctx context.Context, req *gatewayv1.GetEventRequest) (*gatewayv1.GetEventResponse, error) {
	id := req.GetId()
	if id == "" || len(id) > maxEventID {
		return nil, status.Errorf(codes.InvalidArgument, "id must have 1 to %d bytes", maxEventID)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StoryTimeout)
	defer cancel()
	st := s.ask(ctx, id)
	if st.dedupe == nil && st.letter == nil {
		st.accepted = s.findSpooled(ctx, id)
	}
	if st.dedupe == nil && st.letter == nil && st.accepted == nil {
		if len(st.silent) > 0 {
			return nil, status.Errorf(codes.Unavailable, "the story of event %s cannot be told now: no answer of %s", id, strings.Join(st.silent, ", "))
		}
		return nil, status.Errorf(codes.NotFound, "no event %s is known (yet)", id)
	}
	return st.response(id), nil
}

// ask collects the parts of a story.
func (s *Service) ask(ctx context.Context, id string) story {
	var (
		st      story
		g       errgroup.Group
		answers = make([]error, 4)
	)
	g.Go(func() error {
		res, err := s.deps.Dedupe.GetEvent(ctx, &dedupev1.GetEventRequest{Id: id})
		st.dedupe, answers[0] = res.GetEvent(), err
		return nil
	})
	g.Go(func() error {
		res, err := s.deps.Sequencer.GetEvent(ctx, &sequencerv1.GetEventRequest{Id: id})
		st.sequencer, answers[1] = res.GetEvent(), err
		return nil
	})
	g.Go(func() error {
		res, err := s.deps.Embedder.GetEvent(ctx, &embedderv1.GetEventRequest{Id: id})
		st.embedder, answers[2] = res.GetEvent(), err
		return nil
	})
	g.Go(func() error {
		res, err := s.deps.Reconciler.GetDeadLetter(ctx, &reconcilerv1.GetDeadLetterRequest{Id: id})
		st.letter, answers[3] = withoutPayload(res.GetDeadLetter()), err
		return nil
	})
	_ = g.Wait() // the functions report into answers
	for i, service := range []string{"dedupe", "sequencer", "embedder", "reconciler"} {
		if err := answers[i]; err != nil && status.Code(err) != codes.NotFound {
			s.tel.Logger.WarnContext(ctx, "a part of an event's story is missing", "event", id, "service", service, "error", err)
			st.silent = append(st.silent, service)
		}
	}
	return st
}

// withoutPayload leaves out what a dead letter was made of.
func withoutPayload(l *eventv1.DeadLetter) *eventv1.DeadLetter {
	if l != nil {
		l.Payload, l.Delivery = nil, nil
		for _, ev := range []*eventv1.Event{l.GetEvent(), l.GetChange().GetEvent()} {
			if ev != nil {
				ev.Payload, ev.Content, ev.Headers = nil, nil, nil
			}
		}
	}
	return l
}

// ListEvents implements EventService.
func (s *Service) ListEvents(ctx context.Context, req *gatewayv1.ListEventsRequest) (*gatewayv1.ListEventsResponse, error) {
	if n := req.GetLimit(); n < 0 || n > maxListed {
		return nil, status.Errorf(codes.InvalidArgument, "limit must be 0 to %d", maxListed)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StoryTimeout)
	defer cancel()
	res, err := s.deps.Dedupe.ListEvents(ctx, &dedupev1.ListEventsRequest{Source: req.GetSource(), DocumentId: req.GetDocumentId(), Limit: req.GetLimit()})
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	out := &gatewayv1.ListEventsResponse{Events: make([]*gatewayv1.EventSummary, len(res.GetEvents()))}
	for i, e := range res.GetEvents() {
		out.Events[i] = &gatewayv1.EventSummary{
			Id: e.GetId(), Source: e.GetSource(), DocumentId: e.GetDocumentId(), Action: e.GetAction(), ReceivedAt: e.GetReceivedAt(), Outcome: e.GetOutcome(),
		}
	}
	return out, nil
}
