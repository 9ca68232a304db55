package reconciler_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// Gateways tell every minute what they have heard. After two weeks of a webhook every ten minutes, a silence of a day is noticed: the
// source is polled at once, although the next poll is far away.
func TestASilentSourceIsPolledSooner(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	died := time.Now().Add(-24 * time.Hour)
	pos, _, err := r.store.Claim(t.Context(), "t", 0)
	if err != nil {
		t.Fatal(err)
	}
	b := stage.Batch{Now: time.Now()}
	for at := died.Add(-14 * 24 * time.Hour); at.Before(died); at = at.Add(10 * time.Minute) {
		b.Records = append(b.Records, stage.Record{Topic: "t", Offset: int64(len(b.Records)), Value: encode(t, &eventv1.Debt{Source: "s", Reason: "HEARD", Heard: 1, IncurredAt: timestamppb.New(at)})})
	}
	var result stage.Result
	if err := r.store.Update(t.Context(), func(ctx context.Context, tx reconciler.Tx) (stage.Advance, error) {
		result, err = r.service.Debts().Handle(ctx, tx, b)
		return stage.Advance{Position: pos}, err
	}); err != nil {
		t.Fatal(err)
	}
	result.Committed()
	if owing, err := r.store.DebtSources(t.Context()); err != nil || len(owing) != 0 {
		t.Errorf("what was heard is taken for a debt: %v, %v", owing, err)
	}
	list, err := r.service.ListSources(t.Context(), &reconcilerv1.ListSourcesRequest{})
	if err != nil || !list.GetSources()[0].GetSilent() || list.GetSources()[0].GetExpectedWebhooks() < 100 {
		t.Fatalf("%v, %v", list, err)
	}
	if err := r.store.SetCursor(t.Context(), "s", "0", time.Now()); err != nil { // it was read from its beginning
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.service.Run(ctx) }()
	for end := time.Now().Add(10 * time.Second); ; {
		r.provider.mu.Lock()
		asks := r.provider.asks
		r.provider.mu.Unlock()
		list, err := r.service.ListSources(t.Context(), &reconcilerv1.ListSourcesRequest{})
		if next := list.GetSources()[0].GetNextPollAt(); err == nil && asks > 0 && next != nil && time.Until(next.AsTime()) < 6*time.Minute {
			break // an hour's twelfth
		}
		if time.Now().After(end) {
			t.Fatalf("%d polls, %v, %v", asks, list, err)
		}
		<-time.After(5 * time.Millisecond)
	}
	if value, set := r.gauge(t, "hookmesh.reconciler.silent"); !set || value != 1 {
		t.Errorf("the gauge of a silent source is %d, set: %v", value, set)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The source may go to another instance: what this one exports must not keep the alert alive.
	if value, _ := r.gauge(t, "hookmesh.reconciler.silent"); value != 0 {
		t.Errorf("the gauge is %d after the work on the source has ended", value)
	}
}
