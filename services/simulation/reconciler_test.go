package simulation

import (
	"context"
	"fmt"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// addReconciler adds the reconciler's stage that notes debts, and what pays them, which is a model.
func addReconciler(s *simulation, topic string) {
	store := newReconcilerStore(s.scheduler)
	r, err := reconciler.New(reconciler.Deps{Store: store, Producer: s.log, Telemetry: telemetry.Nop(), Now: s.now(3)}, reconciler.Config{Owner: "reconciler"}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	addStage(s, 3, "reconciler", topic, store.memory, r.Debts())
	s.slots = append(s.slots, &slot{name: "payer", stage: 3, run: func(ctx context.Context) error {
		for {
			if err := s.scheduler.step(ctx, "looks for debts"); err != nil {
				return err
			}
			if err := s.payDebts(ctx, store); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(2 * time.Second):
			}
		}
	}})
}

// payDebts fetches the documents that are owed, and removes the debts only after their events are in the log.
func (s *simulation) payDebts(ctx context.Context, store *reconcilerStore) error {
	debts, err := store.Debts(ctx, "s", 4)
	if err != nil || len(debts) == 0 {
		return err
	}
	var found []*eventv1.Event
	for _, d := range debts {
		if s.world.fetch && d.GetDocumentId() != "" {
			s.paid++
			found = append(found, s.world.fetchEvent(d.GetDocumentId(), eventv1.Origin_ORIGIN_DEBT, fmt.Sprint("debt-", s.paid), time.Now()))
		}
	}
	if len(found) > 0 {
		if err := s.log.Produce(ctx, outputs(s.t, found...)); err != nil {
			return err
		}
	}
	return store.Pay(ctx, debts)
}
