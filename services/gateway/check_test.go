package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
)

// slowDedupe takes its time to say that it has seen nothing.
type slowDedupe struct {
	dedupev1.DedupeServiceClient
	takes *atomic.Int64 // a duration
	asked *atomic.Int64
}

func (d slowDedupe) Check(ctx context.Context, req *dedupev1.CheckRequest, _ ...grpc.CallOption) (*dedupev1.CheckResponse, error) {
	d.asked.Add(1)
	select {
	case <-time.After(time.Duration(d.takes.Load())):
		return &dedupev1.CheckResponse{DuplicateOf: make([]string, len(req.GetEvents()))}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// withSlowDedupe is a gateway whose dedupe takes so long.
func withSlowDedupe(t *testing.T, takes time.Duration) (*rig, slowDedupe) {
	t.Helper()
	d := slowDedupe{takes: &atomic.Int64{}, asked: &atomic.Int64{}}
	d.takes.Store(int64(takes))
	r := start(t, func(deps *gateway.Deps, c *gateway.Config) {
		deps.Dedupe, c.CheckTimeout = d, 250*time.Millisecond
	})
	return r, d
}

func TestADedupeThatIsTooSlowIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := withSlowDedupe(t, time.Hour)
		defer r.stop()
		for i, step := range []struct {
			pause, takes, want time.Duration
			asked              int64
		}{
			{0, time.Hour, 250 * time.Millisecond, 1},
			{0, time.Hour, 0, 1}, // it is not asked
			{999 * time.Millisecond, time.Hour, 0, 1},
			{time.Millisecond, 0, 0, 2}, // it is asked again, and answers
			{0, 100 * time.Millisecond, 100 * time.Millisecond, 3},
		} {
			time.Sleep(step.pause)
			d.takes.Store(int64(step.takes))
			began := time.Now()
			w := r.post("/webhooks/docs", fmt.Sprint("page-", i))
			if took := time.Since(began); w.Code != http.StatusAccepted || took != step.want || d.asked.Load() != step.asked {
				t.Errorf("delivery %d: %d after %s with %d questions to dedupe, want 202 after %s with %d", i, w.Code, took, d.asked.Load(), step.want, step.asked)
			}
		}
	})
}

func TestInACrowdNobodyWaitsLongForDedupe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := withSlowDedupe(t, time.Hour)
		defer r.stop()
		gate := make(chan struct{})
		r.verifier.hold(gate)
		var opened time.Time
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				w := r.post("/webhooks/docs", fmt.Sprint("page-", i))
				if took := time.Since(opened); w.Code != http.StatusAccepted || took > 50*time.Millisecond {
					t.Errorf("%d after %s", w.Code, took)
				}
			})
		}
		synctest.Wait()
		opened = time.Now()
		close(gate)
		wg.Wait()
	})
}

func TestAfterTheRestOneDeliveryFindsOutForAllWhetherDedupeIsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := withSlowDedupe(t, time.Hour)
		defer r.stop()
		r.post("/webhooks/docs", "page-first") // dedupe is left alone from now on
		for _, phase := range []struct {
			takes    time.Duration
			waited   int // of four deliveries that come together
			asked    int64
			patience time.Duration
		}{
			{time.Hour, 1, 1, 250 * time.Millisecond},              // one waits in vain, for the others
			{100 * time.Millisecond, 1, 1, 100 * time.Millisecond}, // one is answered
			{100 * time.Millisecond, 4, 2, 200 * time.Millisecond}, // so that all ask again: one, and the others together after it
		} {
			time.Sleep(time.Second)
			d.takes.Store(int64(phase.takes))
			began := time.Now()
			var waited atomic.Int64
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					w := r.post("/webhooks/docs", fmt.Sprint("page-", i))
					if took := time.Since(began); w.Code != http.StatusAccepted || took > phase.patience {
						t.Errorf("%d after %s", w.Code, took)
					} else if took > 0 {
						waited.Add(1)
					}
				})
			}
			wg.Wait()
			if int(waited.Load()) != phase.waited {
				t.Errorf("dedupe takes %s: %d deliveries waited, want %d", phase.takes, waited.Load(), phase.waited)
			}
		}
	})
}
