package reconciler

import (
	"context"
	"errors"
	"slices"
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

// openFor is an embedder of which endpoints are open at times.
type openFor struct {
	embedderv1.EmbedderServiceClient
	endpoints func() []string
}

func (o openFor) GetBacklog(context.Context, *embedderv1.GetBacklogRequest, ...grpc.CallOption) (*embedderv1.GetBacklogResponse, error) {
	res := &embedderv1.GetBacklogResponse{}
	for _, name := range o.endpoints() {
		res.Breakers = append(res.Breakers, &embedderv1.BreakerStatus{Endpoint: name, Cause: "HTTP 401"})
	}
	return res, nil
}

// A turn lasts for half a minute. Whoever takes longer for the first targets has to see whether it is still his for the others.
func TestSlowTargetsMakeNoSecondInstanceTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneLease{states: states{kept: map[string][]byte{}}}
		var mu sync.Mutex
		told := map[string]int{}
		var targets []alert.Target
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			targets = append(targets, alert.Target{Name: name})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, name := range []string{"one", "two"} {
			s, err := New(Deps{Store: store, Telemetry: telemetry.Nop(), Embedder: refused{}, Now: time.Now, Notify: func(_ context.Context, target alert.Target, _ alert.Message) error {
				time.Sleep(9 * time.Second)
				mu.Lock()
				defer mu.Unlock()
				told[target.Name]++
				return nil
			}}, Config{Owner: name, Alerts: targets, AlertPolicy: alert.Policy{Repeat: time.Hour, Settle: time.Minute, PerHour: 10}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { s.watch(ctx) })
		}
		time.Sleep(10 * time.Minute)
		cancel()
		wg.Wait()
		for _, target := range targets {
			if told[target.Name] != 1 {
				t.Errorf("%s was told %d times", target.Name, told[target.Name])
			}
		}
	})
}

// While a target is away nobody tells it that something is over which comes and goes.
func TestWhatComesAndGoesWhileATargetIsAwayIsNotOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		open := func() (names []string) {
			since := time.Since(began)
			if since/time.Minute%2 == 1 { // every other minute, and not when the target is there again
				names = append(names, "flaps")
			}
			if since > 5*time.Minute {
				names = append(names, "stays")
			}
			return names
		}
		var opened, over []string
		s, err := New(Deps{Store: &states{kept: map[string][]byte{}, Store: lendsAll{}}, Telemetry: telemetry.Nop(), Embedder: openFor{endpoints: open}, Now: time.Now,
			Notify: func(_ context.Context, _ alert.Target, m alert.Message) error {
				if since := time.Since(began); since > 4*time.Minute && since < 20*time.Minute {
					return errors.New("HTTP 503")
				}
				for _, in := range m.Opened {
					opened = append(opened, in.Source)
				}
				for _, in := range m.Resolved {
					over = append(over, in.Source)
				}
				return nil
			}}, Config{Alerts: []alert.Target{{Name: "ops"}}, AlertPolicy: alert.Policy{Repeat: time.Hour, Settle: 2 * time.Minute, PerHour: 10}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.watch(ctx); close(done) }()
		time.Sleep(30 * time.Minute)
		cancel()
		<-done
		if len(over) > 0 || !slices.Equal(opened, []string{"flaps", "stays"}) {
			t.Errorf("told of %q, and that %q are over", opened, over)
		}
	})
}

// lendsAll lends every lease.
type lendsAll struct{ Store }

func (lendsAll) AcquireLease(context.Context, string, string, time.Time, time.Time) (bool, error) {
	return true, nil
}

func (lendsAll) ReleaseLease(context.Context, string, string) error { return nil }
