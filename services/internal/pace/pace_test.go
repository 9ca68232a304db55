package pace

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// crowd keeps n requests in work until the returned function is called.
func crowd(p *Pacer, n int) (leave func()) { return crowdOf(p, n, http.MethodPost) }

// crowdOf does so with requests of a method; only POST counts.
func crowdOf(p *Pacer, n int, method string) (leave func()) {
	gate, in := make(chan struct{}), make(chan struct{})
	h := p.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { in <- struct{}{}; <-gate }), func(r *http.Request) bool { return r.Method == http.MethodPost })
	for range n {
		go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
		<-in
	}
	return func() { close(gate) }
}

func TestTheBackgroundRestsOnlyWhileThereAreRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pacer{}
		rest := func(ctx context.Context, took time.Duration) time.Duration {
			began := time.Now()
			p.Rest(ctx, took)
			return time.Since(began)
		}
		if d := rest(t.Context(), time.Hour); d != 0 {
			t.Errorf("rested %s although nothing is to be done", d)
		}
		leave := crowd(p, busyAt)
		if d := rest(t.Context(), 10*time.Millisecond); d < 185*time.Millisecond || d > 200*time.Millisecond {
			t.Errorf("rested %s for 10 ms of work", d)
		}
		if d := rest(t.Context(), time.Hour); d > longestRest+look {
			t.Errorf("rested %s, at most %s are allowed", d, longestRest)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if d := rest(ctx, time.Hour); d > 30*time.Millisecond {
			t.Errorf("rested %s although the context ended", d)
		}
		time.AfterFunc(50*time.Millisecond, leave)
		if d := rest(t.Context(), time.Hour); d > 60*time.Millisecond+linger {
			t.Errorf("rested %s although the burst was over", d)
		}
	})
	var none *Pacer
	none.Rest(t.Context(), time.Hour)
}

func TestWhoAsksForWhatTheBackgroundDoesDoesNotHoldItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pacer{}
		defer crowdOf(p, 10*busyAt, http.MethodGet)()
		if p.Busy() {
			t.Error("requests that do not count made it busy")
		}
	})
}

func TestWorkersBeginOneAfterTheOtherWhenTheBurstIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pacer{}
		leave := crowd(p, busyAt)
		ended := make(chan time.Time, 10)
		for range cap(ended) {
			go func() { p.Rest(t.Context(), time.Second); ended <- time.Now() }()
		}
		time.Sleep(time.Second)
		leave()
		last := <-ended
		for range cap(ended) - 1 {
			next := <-ended
			if gap := next.Sub(last); gap < spacing || gap > spacing+2*look {
				t.Errorf("the next worker began after %s, want %s", gap, spacing)
			}
			last = next
		}
	})
}
