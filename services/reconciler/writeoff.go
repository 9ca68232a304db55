package reconciler

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

const (
	// defaultDebtPage is how many debts are listed if nobody says how many.
	defaultDebtPage = 100
	// loggedDocuments is how many documents the log names of those whose debts are written off.
	loggedDocuments = 20
)

// ListDebts implements the API.
func (s *Service) ListDebts(ctx context.Context, req *reconcilerv1.ListDebtsRequest) (*reconcilerv1.ListDebtsResponse, error) {
	names := []string{req.GetSource()}
	if req.GetSource() == "" {
		var err error
		if names, err = s.deps.Store.DebtSources(ctx); err != nil {
			return nil, fmt.Errorf("read which sources owe: %w", err)
		}
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultDebtPage
	}
	res := &reconcilerv1.ListDebtsResponse{}
	for _, name := range names {
		count, err := s.deps.Store.CountDebts(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("count debts of %s: %w", name, err)
		}
		res.Total += count.Open
		p, room := s.source(name), size-len(res.GetDebts())
		if room == 0 {
			continue
		}
		debts, err := s.deps.Store.Debts(ctx, name, room)
		if err != nil {
			return nil, fmt.Errorf("read debts of %s: %w", name, err)
		}
		for _, d := range debts {
			way := noWay
			if p != nil {
				way = p.way(d)
			}
			res.Debts = append(res.Debts, &reconcilerv1.OpenDebt{Debt: d.Debt, Way: way})
		}
	}
	return res, nil
}

// WriteOffDebts implements the API.
func (s *Service) WriteOffDebts(ctx context.Context, req *reconcilerv1.WriteOffDebtsRequest) (*reconcilerv1.WriteOffDebtsResponse, error) {
	documents := req.GetDocumentIds()
	switch {
	case req.GetAll() && len(documents) > 0:
		return nil, status.Error(codes.InvalidArgument, "documents are named, and all of them are asked for: one of the two is not meant")
	case req.GetAll():
		documents = nil
	case len(documents) == 0:
		return nil, status.Error(codes.InvalidArgument, "no document is named: name some, or set all to write off whatever the source owes")
	}
	n, err := s.deps.Store.WriteOff(ctx, req.GetSource(), documents)
	if err != nil {
		return nil, fmt.Errorf("write off debts of %s: %w", req.GetSource(), err)
	}
	s.deps.Telemetry.Logger.WarnContext(ctx, "debts were written off", "source", req.GetSource(), "debts", n, "documents", documents[:min(loggedDocuments, len(documents))], "reason", req.GetReason())
	return &reconcilerv1.WriteOffDebtsResponse{WrittenOff: n}, nil
}
