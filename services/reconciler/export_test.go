package reconciler

import (
	"context"
	"errors"

	"github.com/hookmesh/hookmesh/services/reconciler/alert"
)

// Conditions are what is wrong now.
func (s *Service) Conditions(ctx context.Context) ([]alert.Condition, error) {
	return s.conditions(ctx)
}

// Hurry makes the next poll of a source due now.
func (s *Service) Hurry(source string) {
	s.source(source).hurry()
}

// TellAll looks once whether something is wrong, and tells the targets.
func (s *Service) TellAll(ctx context.Context) error {
	holding, err := s.conditions(ctx)
	for _, t := range s.cfg.Alerts {
		err = errors.Join(err, s.tell(ctx, t, holding, s.deps.Now(), true))
	}
	return err
}

// PayAll pays what all sources owe, as the one instance that there is.
func (s *Service) PayAll(ctx context.Context) error {
	for _, p := range s.pollers() {
		p.mine.Store(true)
	}
	return s.pay(ctx)
}

// Fill reads the first page of a new backfill.
func (s *Service) Fill(ctx context.Context, source string) error {
	p := s.source(source)
	return p.fill(ctx, p.newBackfill(false))
}
