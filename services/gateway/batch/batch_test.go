package batch_test

import (
	"context"
	"errors"
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
	for _, linger := range []time.Duration{0, 20 * time.Microsecond} {
		t.Run(linger.String(), func(t *testing.T) { loseNothing(t, linger) })
	}
}

func loseNothing(t *testing.T, linger time.Duration) {
	t.Helper()
	var asked atomic.Int64
	b := batch.New(batch.Config[int]{Lanes: 3, MaxItems: 5, Linger: func() time.Duration { return linger }}, func(_ context.Context, qs []int) ([]int, error) {
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

func TestABatchThatLingersTakesThoseAlongThatCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		linger := 4 * time.Millisecond
		b := batch.New(batch.Config[int]{Lanes: 2, MaxItems: 4, Linger: func() time.Duration { return linger }}, func(_ context.Context, qs []int) ([]int, error) {
			mu.Lock()
			sizes = append(sizes, len(qs))
			mu.Unlock()
			time.Sleep(time.Second)
			return qs, nil
		})
		began := time.Now()
		var wg sync.WaitGroup
		ask := func(want time.Duration) {
			wg.Go(func() {
				if _, err := b.Do(t.Context(), 1); err != nil || time.Since(began) != want {
					t.Errorf("answered after %s, %v, want %s", time.Since(began), err, want)
				}
			})
		}
		ask(1004 * time.Millisecond)
		time.Sleep(time.Millisecond)
		ask(1004 * time.Millisecond) // a lane is free, but the first is about to go
		ask(1004 * time.Millisecond)
		time.Sleep(4 * time.Millisecond)
		ask(1009 * time.Millisecond) // the first has gone; this one begins to linger on the other lane
		wg.Wait()
		if len(sizes) != 2 || sizes[0] != 3 || sizes[1] != 1 {
			t.Errorf("batches of %v, want 3 and 1", sizes)
		}
		began, linger = time.Now(), 0
		ask(time.Second)
		wg.Wait()
	})
}
