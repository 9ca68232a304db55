// Package storetest holds what every implementation of reconciler.Store must do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// Fixture is a store under test.
type Fixture struct {
	Store reconciler.Store
	// Reopen closes the store and opens it again over the same data; nil: its data does not outlive it.
	Reopen func(t *testing.T) Fixture
}

// Run runs the suite. open returns an empty store each time.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Run("stage", func(t *testing.T) {
		stagetest.RunStore(t, func(t *testing.T) stagetest.StoreFixture[reconciler.Tx] { return stageFixture(open(t)) })
	})
	for _, tt := range []struct {
		name string
		run  func(*suite)
	}{
		{"a cursor is kept with the time of the last whole poll", (*suite).cursors},
		{"debts are read oldest first by source, paid once, and not when incurred again", (*suite).debts},
		{"debts are written off one by one or all of a source, and counted", (*suite).writeOffs},
		{"dead letters are filtered and paged from both ends", (*suite).deadLetters},
		{"a dead letter that comes back takes the place of the old one and keeps its replays", (*suite).comesBack},
		{"old dead letters go, a bounded number at a time", (*suite).expire},
		{"a lease has one holder until it ends or is given back", (*suite).leases},
		{"of several that want a lease one gets it", (*suite).leaseTogether},
		{"a state is kept by kind and source", (*suite).states},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(newSuite(t, open(t).Store)) })
	}
}

func stageFixture(f Fixture) stagetest.StoreFixture[reconciler.Tx] {
	s := stagetest.StoreFixture[reconciler.Tx]{
		Store: f.Store,
		Put: func(ctx context.Context, tx reconciler.Tx, name string) error {
			return tx.AddDeadLetter(ctx, &eventv1.DeadLetter{Id: name, FailedAt: timestamppb.New(now)})
		},
		Has: func(ctx context.Context, name string) (bool, error) {
			_, err := f.Store.DeadLetter(ctx, name)
			if errors.Is(err, reconciler.ErrNotFound) {
				return false, nil
			}
			return err == nil, err
		},
	}
	if f.Reopen != nil {
		s.Reopen = func(t *testing.T) stagetest.StoreFixture[reconciler.Tx] { return stageFixture(f.Reopen(t)) }
	}
	return s
}

// now is the suite's clock. Stores keep microseconds.
var now = time.Date(2026, 11, 23, 12, 0, 0, 123_000, time.UTC)

type suite struct {
	*testing.T
	store reconciler.Store
	pos   stage.Position
}

func newSuite(t *testing.T, store reconciler.Store) *suite {
	t.Helper()
	pos, _, err := store.Claim(t.Context(), "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	return &suite{T: t, store: store, pos: pos}
}

// tx runs fn in a transaction.
func (s *suite) tx(fn func(ctx context.Context, tx reconciler.Tx) error) {
	s.Helper()
	err := s.store.Update(s.Context(), func(ctx context.Context, tx reconciler.Tx) (stage.Advance, error) {
		return stage.Advance{Position: s.pos}, fn(ctx, tx)
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) cursors() {
	check := func(cursor string, at time.Time) {
		s.Helper()
		if got, polled, err := s.store.Cursor(s.Context(), "s"); err != nil || got != cursor || !polled.Equal(at) {
			s.Errorf("%q, %v, %v; want %q, %v", got, polled, err, cursor, at)
		}
	}
	check("", time.Time{})
	s.must(s.store.SetCursor(s.Context(), "s", "page 1\x00\xff", time.Time{}))
	check("page 1\x00\xff", time.Time{})
	s.must(s.store.SetCursor(s.Context(), "s", "end", now))
	s.must(s.store.SetCursor(s.Context(), "s", "next", time.Time{}))
	s.must(s.store.SetCursor(s.Context(), "t", "x", now.Add(time.Hour)))
	check("next", now)
}

func (s *suite) debts() {
	debt := func(source, document, reason string) *eventv1.Debt {
		return &eventv1.Debt{Source: source, DocumentId: document, Reason: reason, IncurredAt: timestamppb.New(now)}
	}
	s.tx(func(ctx context.Context, tx reconciler.Tx) error {
		return errors.Join(tx.AddDebt(ctx, debt("s", "b\x00", "GAP")), tx.AddDebt(ctx, debt("s", "a", "GAP")), tx.AddDebt(ctx, debt("t", "a", "GAP")), tx.AddDebt(ctx, debt("s", "", "SHED")))
	})
	list := func(limit int) []reconciler.Debt {
		s.Helper()
		all, err := s.store.Debts(s.Context(), "s", limit)
		s.must(err)
		return all
	}
	all := list(10)
	if len(all) != 3 || all[0].GetDocumentId() != "b\x00" || all[1].GetDocumentId() != "a" || !proto.Equal(all[2].Debt, debt("s", "", "SHED")) || len(list(2)) != 2 {
		s.Fatalf("%v", all)
	}
	s.tx(func(ctx context.Context, tx reconciler.Tx) error {
		return errors.Join(tx.AddDebt(ctx, debt("s", "a", "STALE")), tx.AddDebt(ctx, debt("s", "", "RESYNC")))
	})
	s.must(s.store.Pay(s.Context(), all))
	s.must(s.store.Pay(s.Context(), all))
	s.must(s.store.Pay(s.Context(), nil))
	left := list(10)
	if len(left) != 2 || left[0].GetReason() != "GAP" || left[0].Version <= all[1].Version || left[1].GetReason() != "RESYNC" {
		s.Fatalf("what was incurred again meanwhile: %v", left)
	}
	if got, err := s.store.CountDebts(s.Context(), "s"); err != nil || got != (reconciler.DebtCount{Open: 2, Paid: 1}) {
		s.Errorf("%+v, %v", got, err)
	}
	if names, err := s.store.DebtSources(s.Context()); err != nil || !slices.Equal(names, []string{"s", "t"}) {
		s.Errorf("%v, %v", names, err)
	}
	s.must(s.store.Pay(s.Context(), left))
	if names, err := s.store.DebtSources(s.Context()); err != nil || !slices.Equal(names, []string{"t"}) {
		s.Errorf("%v, %v", names, err)
	}
	// Two owners of a lease read a debt; one pays it, it is incurred again, and then the other one pays what it has read.
	again := func(ctx context.Context, tx reconciler.Tx) error { return tx.AddDebt(ctx, debt("s", "a", "GAP")) }
	s.tx(again)
	read := list(10)
	s.must(s.store.Pay(s.Context(), read))
	s.tx(again)
	s.must(s.store.Pay(s.Context(), read))
	if left := list(10); len(left) != 1 {
		s.Errorf("a debt that was incurred after another of its document had been paid was paid with it: %v are open", left)
	}
}

func (s *suite) writeOffs() {
	s.tx(func(ctx context.Context, tx reconciler.Tx) error {
		var errs []error
		for _, d := range []string{"", "a", "b\x00", "c"} {
			errs = append(errs, tx.AddDebt(ctx, &eventv1.Debt{Source: "s", DocumentId: d, Reason: "SHED"}), tx.AddDebt(ctx, &eventv1.Debt{Source: "t", DocumentId: d, Reason: "SHED"}))
		}
		return errors.Join(errs...)
	})
	first, err := s.store.Debts(s.Context(), "s", 1)
	s.must(err)
	s.must(s.store.Pay(s.Context(), first))
	for _, step := range []struct {
		documents []string
		want      int64
		left      reconciler.DebtCount
	}{
		{[]string{}, 0, reconciler.DebtCount{Open: 3, Paid: 1}},
		{[]string{"b\x00", "nobody's"}, 1, reconciler.DebtCount{Open: 2, Paid: 1, WrittenOff: 1}},
		{[]string{"b\x00"}, 0, reconciler.DebtCount{Open: 2, Paid: 1, WrittenOff: 1}},
		{nil, 2, reconciler.DebtCount{Paid: 1, WrittenOff: 3}},
		{nil, 0, reconciler.DebtCount{Paid: 1, WrittenOff: 3}},
	} {
		if n, err := s.store.WriteOff(s.Context(), "s", step.documents); err != nil || n != step.want {
			s.Errorf("%q: %d were written off, %v", step.documents, n, err)
		}
		if got, err := s.store.CountDebts(s.Context(), "s"); err != nil || got != step.left {
			s.Errorf("after %q: %+v, %v", step.documents, got, err)
		}
	}
	if got, err := s.store.CountDebts(s.Context(), "t"); err != nil || got != (reconciler.DebtCount{Open: 4}) {
		s.Errorf("of another source: %+v, %v", got, err)
	}
}

func (s *suite) letter(i int) *eventv1.DeadLetter {
	return &eventv1.DeadLetter{Id: fmt.Sprint("l", i), Source: []string{"s", "t"}[i%2], DocumentId: fmt.Sprint("d\x00", i%3), Stage: []string{"dedupe", "embedder"}[i/4], Code: fmt.Sprint("C", i%2),
		Error: "because", Payload: []byte{0, 0xff}, FailedAt: timestamppb.New(now.Add(time.Duration(i) * time.Minute))}
}

func (s *suite) deadLetters() {
	s.tx(func(ctx context.Context, tx reconciler.Tx) error {
		for i := range 8 {
			if err := tx.AddDeadLetter(ctx, s.letter(i)); err != nil {
				return err
			}
		}
		return nil
	})
	one, err := s.store.DeadLetter(s.Context(), "l5")
	if err != nil || !proto.Equal(one.Letter, s.letter(5)) || one.Status.GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN || one.Status.GetId() != "l5" {
		s.Errorf("%v, %v", one, err)
	}
	if _, err := s.store.DeadLetter(s.Context(), "l9"); !errors.Is(err, reconciler.ErrNotFound) {
		s.Errorf("got %v, want ErrNotFound", err)
	}
	resolved, err := s.store.ResolveDeadLetter(s.Context(), one.Number, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED, "", now)
	again, err2 := s.store.ResolveDeadLetter(s.Context(), one.Number, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED, "trace", now)
	if err := errors.Join(err, err2); err != nil || !resolved || again {
		s.Errorf("resolved %v, again %v, %v", resolved, again, err)
	}
	type filter = reconciler.DeadFilter
	for _, tt := range []struct {
		f    filter
		want string
	}{
		{filter{}, "l7 l6 l5 l4 l3 l2 l1 l0"}, {filter{Source: "t"}, "l7 l5 l3 l1"}, {filter{Document: "d\x001"}, "l7 l4 l1"}, {filter{Stage: "embedder", Code: "C0"}, "l6 l4"},
		{filter{IDs: []string{"l1", "l6", "none"}}, "l6 l1"}, {filter{State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_DISCARDED}, "l5"},
		{filter{From: now.Add(2 * time.Minute), To: now.Add(4 * time.Minute)}, "l3 l2"}, {filter{Source: "none"}, ""},
	} {
		s.wantLetters(tt.f, tt.want)
	}
	newest, err := s.store.DeadLetters(s.Context(), filter{Source: "s"}, 0, 2)
	s.must(err)
	rest, err := s.store.DeadLetters(s.Context(), filter{Source: "s"}, newest[len(newest)-1].Number, 10)
	if got := ids(newest) + "|" + ids(rest); err != nil || got != "l6 l4|l2 l0" {
		s.Errorf("pages from the newest: %s, %v", got, err)
	}
	oldest, err := s.store.OldestDeadLetters(s.Context(), filter{Source: "s"}, 0, 3)
	s.must(err)
	rest, err = s.store.OldestDeadLetters(s.Context(), filter{Source: "s"}, oldest[len(oldest)-1].Number, 10)
	if got := ids(oldest) + "|" + ids(rest); err != nil || got != "l0 l2 l4|l6" {
		s.Errorf("pages from the oldest: %s, %v", got, err)
	}
}

func ids(letters []reconciler.DeadLetter) (out string) {
	for i, d := range letters {
		if i > 0 {
			out += " "
		}
		out += d.Letter.GetId()
	}
	return out
}

func (s *suite) wantLetters(f reconciler.DeadFilter, want string) {
	s.Helper()
	found, err := s.store.DeadLetters(s.Context(), f, 0, 100)
	n, err2 := s.store.CountDeadLetters(s.Context(), f)
	if err := errors.Join(err, err2); err != nil || ids(found) != want || int(n) != len(found) {
		s.Errorf("%+v: %s (%d), %v; want %s", f, ids(found), n, err, want)
	}
}

func (s *suite) comesBack() {
	add := func(l *eventv1.DeadLetter) {
		s.Helper()
		s.tx(func(ctx context.Context, tx reconciler.Tx) error { return tx.AddDeadLetter(ctx, l) })
	}
	add(s.letter(0))
	add(s.letter(1))
	first, err := s.store.DeadLetter(s.Context(), "l0")
	s.must(err)
	if ok, err := s.store.ResolveDeadLetter(s.Context(), first.Number, reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED, "trace", now.Add(time.Hour)); err != nil || !ok {
		s.Fatal(ok, err)
	}
	add(s.letter(0)) // a repeat
	same, err := s.store.DeadLetter(s.Context(), "l0")
	if err != nil || same.Number != first.Number || same.Status.GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED || same.Status.GetReplays() != 1 ||
		same.Status.GetReplayTraceId() != "trace" || !same.Status.GetResolvedAt().AsTime().Equal(now.Add(time.Hour)) {
		s.Errorf("after a repeat: %v, %v", same, err)
	}
	later := s.letter(0)
	later.FailedAt, later.Error = timestamppb.New(now.Add(2*time.Hour)), "again"
	add(later)
	back, err := s.store.DeadLetter(s.Context(), "l0")
	if err != nil || back.Number <= first.Number || back.Letter.GetError() != "again" || back.Status.GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN || back.Status.GetReplays() != 1 || back.Status.GetResolvedAt() != nil {
		s.Errorf("after it came back: %v, %v", back, err)
	}
	s.wantLetters(reconciler.DeadFilter{}, "l0 l1")
}

func (s *suite) expire() {
	s.tx(func(ctx context.Context, tx reconciler.Tx) error {
		for i := range 8 {
			if err := tx.AddDeadLetter(ctx, s.letter(i)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, want := range []string{"l7 l6 l5 l4 l3", "l7 l6 l5", "l7 l6 l5"} {
		s.tx(func(ctx context.Context, tx reconciler.Tx) error { return tx.Expire(ctx, now.Add(4*time.Minute), 3) })
		s.wantLetters(reconciler.DeadFilter{}, want)
	}
}

func (s *suite) leases() {
	acquire := func(owner string, at time.Duration, want bool) {
		s.Helper()
		if got, err := s.store.AcquireLease(s.Context(), "poll", owner, now.Add(at), now.Add(at+time.Minute)); err != nil || got != want {
			s.Errorf("%s at %s: %v, %v", owner, at, got, err)
		}
	}
	acquire("a", 0, true)
	acquire("b", 59*time.Second, false)
	acquire("a", 30*time.Second, true)
	acquire("b", 89*time.Second, false)
	if held, err := s.store.Leases(s.Context(), now); err != nil || len(held) != 1 || held[0].Owner != "a" || held[0].Name != "poll" || !held[0].Until.Equal(now.Add(90*time.Second)) {
		s.Errorf("%v, %v", held, err)
	}
	acquire("b", 90*time.Second, true)
	s.must(s.store.ReleaseLease(s.Context(), "poll", "a"))
	acquire("c", 91*time.Second, false)
	s.must(s.store.ReleaseLease(s.Context(), "poll", "b"))
	acquire("c", 91*time.Second, true)
	if held, err := s.store.Leases(s.Context(), now.Add(time.Hour)); err != nil || len(held) != 0 {
		s.Errorf("%v, %v", held, err)
	}
}

func (s *suite) leaseTogether() {
	var wg sync.WaitGroup
	got := make(chan string, 8)
	for i := range 8 {
		wg.Go(func() {
			owner := fmt.Sprint("owner-", i)
			ok, err := s.store.AcquireLease(s.Context(), "poll", owner, now, now.Add(time.Minute))
			if err != nil {
				s.Error(err)
			}
			if ok {
				got <- owner
			}
		})
	}
	wg.Wait()
	if len(got) != 1 {
		s.Errorf("%d got the lease", len(got))
	}
}

func (s *suite) states() {
	if got, err := s.store.State(s.Context(), "drift", "s"); err != nil || got != nil {
		s.Errorf("%v, %v", got, err)
	}
	s.must(s.store.SetState(s.Context(), "drift", "s", []byte("one")))
	s.must(s.store.SetState(s.Context(), "rhythm", "s", []byte("other")))
	s.must(s.store.SetState(s.Context(), "drift", "s", []byte{0, 0xff}))
	if got, err := s.store.State(s.Context(), "drift", "s"); err != nil || string(got) != "\x00\xff" {
		s.Errorf("%v, %v", got, err)
	}
}
