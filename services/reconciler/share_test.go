package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// slowStore lends everything. The lease of a source comes when the time has gone on by late.
type slowStore struct {
	Store
	now  time.Time
	late time.Duration
}

func (s *slowStore) AcquireLease(_ context.Context, name, _ string, _, _ time.Time) (bool, error) {
	if strings.HasPrefix(name, sourceLease) {
		s.now = s.now.Add(s.late)
	}
	return true, nil
}

func (*slowStore) Leases(context.Context, time.Time) ([]Lease, error) { return nil, nil }

// What begins under a lease that is over runs beside whoever has the source by then.
func TestNoWorkBeginsUnderALeaseThatIsOver(t *testing.T) {
	for late, want := range map[time.Duration]int{time.Second: 1, 15 * time.Second: 0, time.Minute: 0} {
		store := &slowStore{now: time.Unix(0, 0), late: late}
		s, err := New(Deps{Store: store, Telemetry: telemetry.Nop(), Now: func() time.Time { return store.now }}, Config{}, []Source{{Source: config.Source{Name: "s"}}})
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]*holding{}
		if err := s.balance(context.Background(), held); err != nil {
			t.Fatal(err)
		}
		if len(held) != want {
			t.Errorf("the lease came after %s: %d sources are held, want %d", late, len(held), want)
		}
		s.drop(held, func(*holding) bool { return true })
	}
}

// lender lends leases while it can be reached.
type lender struct {
	Store
	away atomic.Bool
}

func (l *lender) AcquireLease(context.Context, string, string, time.Time, time.Time) (bool, error) {
	if l.away.Load() {
		return false, errors.New("the database does not answer")
	}
	return true, nil
}

func (*lender) ReleaseLease(context.Context, string, string) error { return nil }

func (*lender) Leases(context.Context, time.Time) ([]Lease, error) { return nil, nil }

// Another instance takes a source over when its lease is over. Whoever cannot prolong it has to stop before that.
func TestWorkOnASourceEndsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &lender{}
		s, err := New(Deps{Store: store, Telemetry: telemetry.Nop(), Now: time.Now}, Config{LeaseTTL: 15 * time.Second}, []Source{{Source: config.Source{Name: "s"}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.share(ctx) })
		for _, step := range []struct {
			after time.Duration
			away  bool
			works bool
		}{{time.Second, false, true}, {time.Minute, true, true}, {9 * time.Second, true, true}, {11 * time.Second, true, false}, {time.Minute, false, false}, {6 * time.Second, false, true}} {
			time.Sleep(step.after)
			synctest.Wait()
			if works := s.source("s").mine.Load(); works != step.works {
				t.Errorf("%s later: works is %v", step.after, works)
			}
			store.away.Store(step.away)
		}
		cancel()
		wg.Wait()
	})
}

// However many instances come and go, after some rounds every source has exactly one holder, and none holds more than its share.
func TestSourcesAreSharedFairlyWhoeverComesAndGoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var sources []string
		for i := range rapid.IntRange(0, 12).Draw(rt, "sources") {
			sources = append(sources, fmt.Sprint("s", i))
		}
		held := map[string]string{} // source to instance
		alive := []string{"a"}
		leases := func() (out []Lease) {
			for _, i := range alive {
				out = append(out, Lease{Name: instanceLease + i, Owner: i})
			}
			for s, o := range held {
				out = append(out, Lease{Name: sourceLease + s, Owner: o})
			}
			return out
		}
		round := func() {
			for _, me := range alive {
				take, giveBack := assign(sources, me, leases())
				for _, s := range giveBack {
					if held[s] != me {
						rt.Fatalf("%s gives back %s, which it does not hold", me, s)
					}
					delete(held, s)
				}
				for _, s := range take {
					if held[s] == "" { // else the store refuses
						held[s] = me
					}
				}
			}
		}
		for range rapid.IntRange(1, 5).Draw(rt, "changes") {
			if rapid.Bool().Draw(rt, "comes") || len(alive) == 1 {
				alive = append(alive, fmt.Sprint("i", rapid.IntRange(0, 1<<20).Draw(rt, "instance")))
				slices.Sort(alive)
				alive = slices.Compact(alive)
			} else {
				gone := alive[rapid.IntRange(0, len(alive)-1).Draw(rt, "goes")]
				alive = slices.DeleteFunc(alive, func(i string) bool { return i == gone })
				for s, o := range held { // its leases end
					if o == gone {
						delete(held, s)
					}
				}
			}
			for range 3 {
				round()
			}
			share := map[string]int{}
			for _, s := range sources {
				if !slices.Contains(alive, held[s]) {
					rt.Fatalf("%s is held by %q, alive are %v", s, held[s], alive)
				}
				share[held[s]]++
			}
			for i, n := range share {
				if fair := (len(sources) + len(alive) - 1) / len(alive); n > fair {
					rt.Fatalf("%s holds %d, fair are %d", i, n, fair)
				}
			}
		}
	})
}
