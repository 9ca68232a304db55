package batch_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/gateway/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCallersThatWaitShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		b := batch.New(batch.Config[int]{Lanes: 1}, func(_ context.Context, qs []int) ([]int, error) {
			sizes = append(sizes, len(qs))
			time.Sleep(time.Second)
			answers := make([]int, len(qs))
			for i, q := range qs {
				answers[i] = 2 * q
			}
			return answers, nil
		})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if a, err := b.Do(t.Context(), i); a != 2*i || err != nil {
					t.Errorf("2·%d = %d, %v", i, a, err)
				}
			})
			if i == 0 {
				synctest.Wait() // the first one is being answered when the others come
			}
		}
		wg.Wait()
		if len(sizes) != 2 || sizes[0] != 1 || sizes[1] != 9 {
			t.Errorf("batches of %v, want 1 and 9", sizes)
		}
	})
}

func TestNoQuestionIsLostOverSeveralLanes(t *testing.T) {
	for _, patience := range []time.Duration{0, 20 * time.Microsecond, time.Hour} {
		t.Run(patience.String(), func(t *testing.T) { loseNothing(t, patience) })
	}
}

func loseNothing(t *testing.T, patience time.Duration) {
	t.Helper()
	var asked atomic.Int64
	b := batch.New(batch.Config[int]{Lanes: 3, MaxItems: 5, Patience: patience}, func(_ context.Context, qs []int) ([]int, error) {
		asked.Add(int64(len(qs)))
		return qs, nil
	})
	const callers, each = 32, 300
	var gaveUp atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					go cancel()
				}
				a, err := b.Do(ctx, c*each+i)
				if err != nil {
					gaveUp.Add(1)
				} else if a != c*each+i {
					t.Errorf("%d was answered with %d", c*each+i, a)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if n := asked.Load() + gaveUp.Load(); n < callers*each {
		t.Errorf("%d of %d questions", n, callers*each)
	}
}

func TestHeavyQuestionsGoAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heaviest atomic.Int64
		b := batch.New(batch.Config[int]{Lanes: 1, MaxItems: 3, MaxWeight: 10, Weight: func(q int) int { return q }},
			func(_ context.Context, qs []int) ([]int, error) {
				time.Sleep(time.Second)
				sum := 0
				for _, q := range qs {
					sum += q
				}
				if len(qs) > 1 && sum > 10 || len(qs) > 3 {
					heaviest.Store(int64(sum))
				}
				return qs, nil
			})
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				if a, err := b.Do(t.Context(), i); a != i || err != nil {
					t.Error(a, err)
				}
			})
		}
		wg.Wait()
		if n := heaviest.Load(); n > 0 {
			t.Errorf("a batch of several weighs %d", n)
		}
	})
}

func TestACallerThatGivesUpHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := batch.New(batch.Config[int]{Lanes: 1, MaxItems: 1}, func(_ context.Context, qs []int) ([]int, error) {
			time.Sleep(time.Minute)
			return qs, nil
		})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%5+1)*time.Minute)
				defer cancel()
				if _, err := b.Do(ctx, i); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if a, err := b.Do(t.Context(), 7); a != 7 || err != nil { // the lane is free again
			t.Error(a, err)
		}
	})
}

func TestAFailureIsToldToAllAndAPanicIsAFailure(t *testing.T) {
	for name, do := range map[string]batch.Do[int, int]{
		"broken":       func(context.Context, []int) ([]int, error) { return nil, errors.New("broken") },
		"panicked":     func(context.Context, []int) ([]int, error) { panic("x") },
		"0 answers to": func(context.Context, []int) ([]int, error) { return nil, nil },
	} {
		b := batch.New(batch.Config[int]{}, do)
		for range 3 {
			if _, err := b.Do(t.Context(), 1); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// slow answers after as long as the first question says, and writes down how many came together.
type slow struct {
	mu    sync.Mutex
	sizes []int
}

func (s *slow) do(_ context.Context, qs []time.Duration) ([]time.Duration, error) {
	s.mu.Lock()
	s.sizes = append(s.sizes, len(qs))
	s.mu.Unlock()
	time.Sleep(qs[0])
	return qs, nil
}

// ask asks and says when the answer has to come, counted from began.
func ask(t *testing.T, wg *sync.WaitGroup, b *batch.Batcher[time.Duration, time.Duration], began time.Time, takes, want time.Duration) {
	t.Helper()
	wg.Go(func() {
		if _, err := b.Do(t.Context(), takes); err != nil || time.Since(began) != want {
			t.Errorf("answered after %s, %v, want %s", time.Since(began), err, want)
		}
	})
	synctest.Wait()
}

func TestThoseThatWaitPatientlyGoTogether(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var s slow
		b := batch.New(batch.Config[time.Duration]{Lanes: 3, Patience: 10 * ms}, s.do)
		var wg sync.WaitGroup
		began := time.Now()
		ask(t, &wg, b, began, 4*ms, 4*ms)
		ask(t, &wg, b, began, 4*ms, 8*ms) // two lanes are free, but the first is about to end
		time.Sleep(2 * ms)
		ask(t, &wg, b, began, 4*ms, 8*ms)
		wg.Wait()
		if !slices.Equal(s.sizes, []int{1, 2}) {
			t.Errorf("batches of %v, want 1 and 2", s.sizes)
		}
	})
}

func TestASlowRequestHoldsOthersUpNoLongerThanTheirPatience(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var s slow
		b := batch.New(batch.Config[time.Duration]{Lanes: 3, Patience: 10 * ms}, s.do)
		var wg sync.WaitGroup
		began := time.Now()
		ask(t, &wg, b, began, 1000*ms, 1000*ms)
		ask(t, &wg, b, began, 1000*ms, 1010*ms) // at 10 ms, on a second lane
		time.Sleep(11 * ms)
		ask(t, &wg, b, began, 5*ms, 25*ms) // at 20 ms, on the third
		ask(t, &wg, b, began, 5*ms, 25*ms) // with it
		time.Sleep(10 * ms)
		ask(t, &wg, b, began, 5*ms, 30*ms) // there is no fourth
		wg.Wait()
		began = time.Now()
		ask(t, &wg, b, began, 5*ms, 5*ms) // all lanes are free again
		wg.Wait()
		if !slices.Equal(s.sizes, []int{1, 1, 2, 1, 1}) {
			t.Errorf("batches of %v", s.sizes)
		}
	})
}

func TestThoseThatFindNoRoomTakeAnotherLane(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var s slow
		b := batch.New(batch.Config[time.Duration]{Lanes: 3, MaxItems: 2, Patience: 10 * ms}, s.do)
		var wg sync.WaitGroup
		began := time.Now()
		ask(t, &wg, b, began, 4*ms, 4*ms)
		for range 5 {
			ask(t, &wg, b, began, 4*ms, 8*ms) // all at 4 ms, over three lanes
		}
		wg.Wait()
		if !slices.Equal(s.sizes, []int{1, 2, 2, 1}) {
			t.Errorf("batches of %v, want 1, 2, 2 and 1", s.sizes)
		}
	})
}

func TestALaneIsNotOpenedForOneThatGaveUp(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var s slow
		b := batch.New(batch.Config[time.Duration]{Lanes: 2, Patience: 10 * ms}, s.do)
		var wg sync.WaitGroup
		began := time.Now()
		ask(t, &wg, b, began, 1000*ms, 1000*ms)
		ctx, cancel := context.WithTimeout(t.Context(), 9*ms)
		defer cancel()
		if _, err := b.Do(ctx, 5*ms); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("answered with %v", err)
		}
		time.Sleep(2 * ms)
		ask(t, &wg, b, began, 5*ms, 16*ms) // the lane is still free
		wg.Wait()
		if !slices.Equal(s.sizes, []int{1, 1}) {
			t.Errorf("batches of %v, want 1 and 1", s.sizes)
		}
	})
}

func TestACallerWhoseTimeIsOverAsksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slow
		b := batch.New(batch.Config[time.Duration]{}, s.do)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Do(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("answered with %v", err)
		}
		if _, err := b.Do(t.Context(), time.Second); err != nil || !slices.Equal(s.sizes, []int{1}) { // the lane is free
			t.Errorf("%v, batches of %v", err, s.sizes)
		}
	})
}
