package reconciler_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/wikisim"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

func TestSourcesThatComeAreWorkedOnAndThoseThatAreDisabledAreLeftAlone(t *testing.T) {
	wiki := wikisim.New(1, time.Now)
	wiki.Step()
	var calls atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); wiki.Handler().ServeHTTP(w, r) }))
	defer srv.Close()
	k := &kept{}
	s, store := open(t, filepath.Join(t.TempDir(), "db"), srv.URL, k)
	defer func() { _ = store.Close() }()
	all := sources(t, srv.URL)
	for i := range all {
		all[i].Poll.Interval = time.Second
	}
	s.SetSources(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if _, err := s.PollSource(ctx, &reconcilerv1.PollSourceRequest{Source: "wiki"}); status.Code(err) != codes.NotFound {
		t.Errorf("before it is there: %v", err)
	}
	s.SetSources(all[:1])
	until(t, "a source that came is polled", func() bool { return calls.Load() > 1 })

	all[0].Disabled = true
	s.SetSources(all[:1])
	if _, err := s.PollSource(ctx, &reconcilerv1.PollSourceRequest{Source: "wiki"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("while it is disabled: %v", err)
	}
	feed(t, store, s.Debts(), encode(t, &eventv1.Debt{Source: "wiki", DocumentId: "1", Reason: "STALE"}))
	owed := func() int64 {
		res, err := s.ListSources(ctx, &reconcilerv1.ListSourcesRequest{})
		if err != nil || len(res.GetSources()) != 1 {
			t.Fatal(res, err)
		}
		return res.GetSources()[0].GetOpenDebts()
	}
	until(t, "nobody asks it any more", func() bool {
		before := calls.Load()
		<-time.After(1500 * time.Millisecond)
		return calls.Load() == before
	})
	if owed() != 1 {
		t.Error("a disabled source's debt is gone")
	}
	all[0].Disabled = false
	s.SetSources([]reconciler.Source{all[0]})
	until(t, "its debt is paid when it is enabled", func() bool { return owed() == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// until repeats a check until it holds.
func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if check() {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("%s: not within 30 s", what)
}
