package reconciler

import (
	"context"
	"fmt"
	"time"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// measure reports open debts and dead letters, by source, and how long ago each source that is polled was polled to its end.
func (s *Service) measure(tel telemetry.Telemetry, scope string) error {
	const debts, paid, writtenOff = "hookmesh.reconciler.debts.open", "hookmesh.reconciler.debts.paid", "hookmesh.reconciler.debts.written_off"
	const dead = "hookmesh.reconciler.dead_letters.open"
	const age, interval = "hookmesh.reconciler.poll.age", "hookmesh.reconciler.poll.interval"
	return tel.Sample(scope, []telemetry.Gauge{
		{Name: debts, Unit: "{debt}", Description: "Debts that are not paid yet, by source: what was missed and must be fetched."},
		{Name: paid, Unit: "{debt}", Description: "Debts that were paid since the store began, by source."},
		{Name: writtenOff, Unit: "{debt}", Description: "Debts that were written off since the store began, by source: nothing was fetched for them."},
		{Name: dead, Unit: "{letter}", Description: "Dead letters that are neither replayed nor discarded, by source."},
		{Name: age, Unit: "s", Description: "Time since a source was last polled to its end, by source; of one that never was, since its first reading came further or began. Only of sources that are polled."},
		{Name: interval, Unit: "s", Description: "How often a source is to be polled, by source: its setting poll.interval."},
	}, func(ctx context.Context) ([]telemetry.Reading, error) {
		var readings []telemetry.Reading
		for _, p := range s.pollers() {
			source := p.src.Name
			count, err := s.deps.Store.CountDebts(ctx, source)
			if err != nil {
				return nil, fmt.Errorf("count debts: %w", err)
			}
			letters, err := s.deps.Store.CountDeadLetters(ctx, DeadFilter{Source: source, State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN})
			if err != nil {
				return nil, fmt.Errorf("count dead letters: %w", err)
			}
			readings = append(readings, telemetry.Read(debts, count.Open, "source", source), telemetry.Read(paid, count.Paid, "source", source),
				telemetry.Read(writtenOff, count.WrittenOff, "source", source), telemetry.Read(dead, letters, "source", source))
			if !p.polls() {
				continue
			}
			since, _, err := p.polledSince(ctx)
			if err != nil {
				return nil, fmt.Errorf("read when a source was polled: %w", err)
			}
			if !since.IsZero() {
				readings = append(readings, telemetry.Read(age, int64(s.deps.Now().Sub(since).Seconds()), "source", source))
			}
			// Rounded up: an interval of less than two seconds is not to be half of what it is.
			readings = append(readings, telemetry.Read(interval, int64((p.src.Poll.Interval+time.Second-1)/time.Second), "source", source))
		}
		return readings, nil
	})
}

// polls says whether the source is to be polled.
func (p *poller) polls() bool { return p.src.Lister != nil && !p.src.Disabled }

// polledSince is when the source was last polled to its end. Of one that never was it is when its first reading, which may take days, came
// further or began; zero: it has not begun.
func (p *poller) polledSince(ctx context.Context) (since time.Time, ever bool, err error) {
	_, polled, err := p.deps.Store.Cursor(ctx, p.src.Name)
	if err != nil || !polled.IsZero() {
		return polled, true, err
	}
	b, err := p.lastBackfill(ctx)
	if err != nil || b == nil {
		return time.Time{}, false, err
	}
	return b.GetMovedAt().AsTime(), false, nil
}
