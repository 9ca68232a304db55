package reconciler

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
)

// refused is an embedder whose model refuses us.
type refused struct {
	embedderv1.EmbedderServiceClient
}

func (refused) GetBacklog(context.Context, *embedderv1.GetBacklogRequest, ...grpc.CallOption) (*embedderv1.GetBacklogResponse, error) {
	return &embedderv1.GetBacklogResponse{Breakers: []*embedderv1.BreakerStatus{{Endpoint: "embedding model", Model: true, Cause: "HTTP 401"}}}, nil
}

// oneLease is a store that instances share: it keeps states and one lease.
type oneLease struct {
	states
	mu    sync.Mutex
	owner string
	until time.Time
}

func (s *oneLease) AcquireLease(_ context.Context, _, owner string, now, until time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != owner && now.Before(s.until) {
		return false, nil
	}
	s.owner, s.until = owner, until
	return true, nil
}

func (s *oneLease) ReleaseLease(_ context.Context, _, owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == owner {
		s.until = time.Time{}
	}
	return nil
}

func (s *oneLease) State(ctx context.Context, kind, source string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states.State(ctx, kind, source)
}

func (s *oneLease) SetState(ctx context.Context, kind, source string, state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states.SetState(ctx, kind, source, state)
}

// Whoever is told takes a while to answer, so that two who looked at the same moment would both tell.
func TestOfSeveralInstancesOneTellsPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneLease{states: states{kept: map[string][]byte{}}}
		var mu sync.Mutex
		var tellers []string
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		stops := map[string]context.CancelFunc{}
		for _, name := range []string{"one", "two"} {
			s, err := New(Deps{Store: store, Telemetry: telemetry.Nop(), Embedder: refused{}, Now: time.Now, Notify: func(context.Context, alert.Target, alert.Message) error {
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				tellers = append(tellers, name)
				return nil
			}}, Config{Owner: name, Alerts: []alert.Target{{Name: "ops"}}, AlertPolicy: alert.Policy{Group: time.Minute, Repeat: time.Hour, Settle: time.Minute, PerHour: 10}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			mine, stop := context.WithCancel(ctx)
			stops[name] = stop
			wg.Go(func() { s.watch(mine) })
		}
		told := func(after time.Duration, want int) string {
			t.Helper()
			time.Sleep(after)
			mu.Lock()
			defer mu.Unlock()
			if len(tellers) != want {
				t.Fatalf("told by %v, want %d messages", tellers, want)
			}
			return tellers[want-1]
		}
		first := told(30*time.Minute, 1)
		stops[first]() // the other one goes on with what was told
		if second := told(50*time.Minute, 2); second == first {
			t.Errorf("%s tells although it has ended", second)
		}
		cancel()
		wg.Wait()
	})
}
