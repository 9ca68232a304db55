package embedder_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// looked is a store that lets something happen between a look at the breakers and what follows from it, and counts states that were read.
type looked struct {
	embedder.Store
	then func()
	read int
}

func (l *looked) Breakers(ctx context.Context, seen int64) (map[string][]byte, int64, error) {
	states, changes, err := l.Store.Breakers(ctx, seen)
	if states != nil {
		l.read++
	}
	if then := l.then; then != nil {
		l.then = nil
		then()
	}
	return states, changes, err
}

// answering is a source that answers, or refuses.
type answering struct {
	connector.Fetcher
	refuses bool
}

func (a answering) Fetch(context.Context, connector.Ref) (connector.Document, error) {
	if a.refuses {
		return connector.Document{}, connector.ErrUnauthorized
	}
	return connector.Document{Content: []byte("text"), Title: "T"}, nil
}

// pair is two embedders over one store whose jobs are taken one by one, under one clock. The source answers the second alone.
type pair struct {
	store         *sqlitestore.Store
	now           atomic.Int64
	first, second *embedder.Service
	look          *looked // the second's
}

func newPair(t *testing.T) *pair {
	t.Helper()
	store, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "k.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	p := &pair{store: store, look: &looked{Store: store}}
	p.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	start := func(store embedder.Store, refuses bool) *embedder.Service {
		s, err := embedder.New(embedder.Deps{
			Store: store, Model: &model{texts: map[string]int{}}, Producer: &letters{}, Telemetry: telemetry.Nop(), Now: func() time.Time { return time.Unix(0, p.now.Load()) },
			Fetchers: map[string]connector.Fetcher{"s": answering{refuses: refuses}}, Jitter: func(time.Duration) time.Duration { return 0 },
		}, embedder.Config{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	p.first, p.second = start(store, true), start(p.look, false)
	b := &bench{service: p.first, store: store, frozen: time.Unix(0, p.now.Load())}
	b.feed(t, change("a", 1, up, ""), change("b", 1, up, ""), change("c", 1, up, ""))
	return p
}

// step lets an embedder take a job after a while; worked: there was one that it might take.
func (p *pair) step(t *testing.T, s *embedder.Service, after time.Duration) (worked bool) {
	t.Helper()
	p.now.Add(int64(after))
	worked, err := s.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return worked
}

// left says that an embedder leaves the source alone, and until when.
func left(t *testing.T, s *embedder.Service) time.Time {
	t.Helper()
	st, err := s.GetStatus(t.Context(), &embedderv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(st.GetBreakers()) == 0 {
		return time.Time{}
	}
	return st.GetBreakers()[0].GetProbeAt().AsTime()
}

// One embedder finds that a source answers, and writes that at the very moment in which another one has found that it still refuses: the
// pause that the other has set is kept, and both wait for its end.
func TestEmbeddersThatWriteAtOnceLoseNoOpening(t *testing.T) {
	p := newPair(t)
	if !p.step(t, p.first, 0) || left(t, p.first).IsZero() {
		t.Fatal("the source is not left alone by who was refused")
	}
	if p.step(t, p.second, time.Second) || left(t, p.second).IsZero() {
		t.Fatal("the second has not heard of it")
	}
	// Both probe when the pause is over. The second has looked at what is kept, and is about to write that the source answers.
	var until time.Time
	looks := 0
	again := func() {
		p.look.then = nil
		if !p.step(t, p.first, 0) {
			t.Error("the first does not probe")
		}
		until = left(t, p.first)
	}
	p.look.then = func() { looks++; p.look.then = again } // the first look is the one before it takes a job
	if !p.step(t, p.second, 10*time.Second) || looks != 1 || until.IsZero() {
		t.Fatalf("the second has not probed: %d looks, the first waits until %s", looks, until)
	}
	kept, _, err := p.store.Breakers(t.Context(), -1)
	if err != nil || len(kept) != 1 {
		t.Errorf("kept is %q, %v: what the first has found is lost", kept, err)
	}
	if got := left(t, p.second); !got.Equal(until) {
		t.Errorf("the second waits until %s, the first until %s", got, until)
	}
	if p.step(t, p.first, time.Second) || p.step(t, p.second, 0) || !left(t, p.first).Equal(until) {
		t.Errorf("the first waits until %s, no longer until %s", left(t, p.first), until)
	}
}

// What nobody has changed is not read again, however long an embedder looks.
func TestBreakersThatNobodyChangesAreReadOnce(t *testing.T) {
	p := newPair(t)
	p.step(t, p.first, 0)
	for range 8 {
		if p.step(t, p.second, time.Second) {
			t.Fatal("the second asks a source that the first leaves alone")
		}
	}
	if p.look.read != 1 {
		t.Errorf("states were read %d times", p.look.read)
	}
}
