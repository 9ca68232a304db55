package reconciler

import (
	"context"
	"fmt"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// measure reports open debts and dead letters, by source, and how long ago each source was polled to its end.
func (s *Service) measure(tel telemetry.Telemetry, scope string) error {
	const debts, paid, dead, age = "hookmesh.reconciler.debts.open", "hookmesh.reconciler.debts.paid", "hookmesh.reconciler.dead_letters.open", "hookmesh.reconciler.poll.age"
	return tel.Sample(scope, []telemetry.Gauge{
		{Name: debts, Unit: "{debt}", Description: "Debts that are not paid yet, by source: what was missed and must be fetched."},
		{Name: paid, Unit: "{debt}", Description: "Debts that were paid since the store began, by source."},
		{Name: dead, Unit: "{letter}", Description: "Dead letters that are neither replayed nor discarded, by source."},
		{Name: age, Unit: "s", Description: "Time since a source was last polled to its end, by source."},
	}, func(ctx context.Context) ([]telemetry.Reading, error) {
		var readings []telemetry.Reading
		for _, source := range s.measured() {
			open, done, err := s.deps.Store.CountDebts(ctx, source)
			if err != nil {
				return nil, fmt.Errorf("count debts: %w", err)
			}
			letters, err := s.deps.Store.CountDeadLetters(ctx, DeadFilter{Source: source, State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN})
			if err != nil {
				return nil, fmt.Errorf("count dead letters: %w", err)
			}
			readings = append(readings, telemetry.Read(debts, open, "source", source), telemetry.Read(paid, done, "source", source), telemetry.Read(dead, letters, "source", source))
			if _, polled, err := s.deps.Store.Cursor(ctx, source); err == nil && !polled.IsZero() {
				readings = append(readings, telemetry.Read(age, int64(s.deps.Now().Sub(polled).Seconds()), "source", source))
			}
		}
		return readings, nil
	})
}

// measured are the names of the sources that are configured now.
func (s *Service) measured() []string {
	all := s.pollers()
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.src.Name
	}
	return names
}
