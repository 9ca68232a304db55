// Package storetest holds what every implementation of sequencer.Store must do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// Fixture is a store under test.
type Fixture struct {
	Store sequencer.Store
	// Reopen closes the store and opens it again over the same data; nil: its data does not outlive it.
	Reopen func(t *testing.T) Fixture
}

// Run runs the suite. open returns an empty store each time.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Run("stage", func(t *testing.T) {
		stagetest.RunStore(t, func(t *testing.T) stagetest.StoreFixture[sequencer.Tx] { return stageFixture(open(t)) })
	})
	for _, tt := range []struct {
		name string
		run  func(*suite)
	}{
		{"a document's state comes back whole, and is replaced and forgotten", (*suite).documents},
		{"what is due comes in order, per partition, at its time", (*suite).due},
		{"a transaction sees its own writes", (*suite).ownWrites},
		{"an event is held until it is released, once", (*suite).held},
		{"members are listed in the order of bytes, by container and by key, in pages", (*suite).members},
		{"graves are kept per container and found per source", (*suite).graves},
		{"totals and numbers are kept", (*suite).counts},
		{"several partitions count one source without losing a number", (*suite).countsTogether},
		{"records are found by id and replaced; old ones go, a bounded number at a time", (*suite).records},
		{"what waits is listed by source, the earliest first", (*suite).waiting},
		{"a batch of thousands is read and written whole", (*suite).large},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(newSuite(t, open(t).Store)) })
	}
}

func stageFixture(f Fixture) stagetest.StoreFixture[sequencer.Tx] {
	s := stagetest.StoreFixture[sequencer.Tx]{
		Store: f.Store,
		Put: func(ctx context.Context, tx sequencer.Tx, name string) error {
			return tx.SetDocument(ctx, "s/"+name, 0, sequencer.State{Revision: 1})
		},
		Has: func(ctx context.Context, name string) (bool, error) {
			_, err := f.Store.Document(ctx, "s/"+name)
			if errors.Is(err, sequencer.ErrNotFound) {
				return false, nil
			}
			return err == nil, err
		},
	}
	if f.Reopen != nil {
		s.Reopen = func(t *testing.T) stagetest.StoreFixture[sequencer.Tx] { return stageFixture(f.Reopen(t)) }
	}
	return s
}

// now is the suite's clock. Stores keep microseconds.
var now = time.Date(2026, 11, 23, 12, 0, 0, 123_000, time.UTC)

type suite struct {
	*testing.T
	store sequencer.Store
	pos   stage.Position
}

func newSuite(t *testing.T, store sequencer.Store) *suite {
	t.Helper()
	pos, _, err := store.Claim(t.Context(), "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	return &suite{T: t, store: store, pos: pos}
}

// tx runs fn in a transaction.
func (s *suite) tx(fn func(ctx context.Context, tx sequencer.Tx) error) {
	s.Helper()
	err := s.store.Update(s.Context(), func(ctx context.Context, tx sequencer.Tx) (stage.Advance, error) {
		return stage.Advance{Position: s.pos}, fn(ctx, tx)
	})
	if err != nil {
		s.Fatal(err)
	}
}

// waitingState waits for a predecessor since a time.
func waitingState(since time.Time) sequencer.State {
	var d sequencer.Decision
	s := sequencer.State{Last: 1, HasLast: true, Revision: 1}
	it := sequencer.Item{ID: "held", Mode: sequencer.Contiguous, Action: sequencer.Updated, Seq: 3, HasSeq: true, Gap: (10 * time.Second).Microseconds()}
	sequencer.Apply(&s, it, sequencer.Rules{MaxHeld: 10}, since.UnixMicro(), &d)
	return s
}

func (s *suite) want(ctx context.Context, tx sequencer.Tx, key string, want sequencer.State) {
	s.Helper()
	got, err := tx.Document(ctx, key)
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || d != "" {
		s.Errorf("%q: %v (-want +got):\n%s", key, err, d)
	}
}

func (s *suite) documents() {
	keys := []string{"s/plain", "s/with\x00zero", "s/\xff\xfe", "s/ünï", "s/" + string(make([]byte, 1000))}
	first := waitingState(now)
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		for _, k := range keys {
			s.want(ctx, tx, k, sequencer.State{})
			if err := tx.SetDocument(ctx, k, 0, first); err != nil {
				return err
			}
		}
		return nil
	})
	second := sequencer.State{Last: 1 << 62, HasLast: true, Revision: 9, Deleted: true}
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		for _, k := range keys {
			s.want(ctx, tx, k, first)
		}
		return errors.Join(tx.SetDocument(ctx, keys[0], 1, second), tx.Forget(ctx, keys[1]))
	})
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		s.want(ctx, tx, keys[0], second)
		s.want(ctx, tx, keys[1], sequencer.State{})
		s.want(ctx, tx, keys[2], first)
		return nil
	})
	if st, err := s.store.Document(s.Context(), keys[0]); err != nil || st.Revision != 9 {
		s.Errorf("%+v, %v", st, err)
	}
	if _, err := s.store.Document(s.Context(), keys[1]); !errors.Is(err, sequencer.ErrNotFound) {
		s.Errorf("got %v, want ErrNotFound", err)
	}
}

func (s *suite) due() {
	late, early := waitingState(now.Add(time.Minute)), waitingState(now)
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		return errors.Join(tx.SetDocument(ctx, "s/late", 0, late), tx.SetDocument(ctx, "s/early", 0, early), tx.SetDocument(ctx, "s/other", 1, early),
			tx.SetDocument(ctx, "s/never", 0, sequencer.State{Revision: 1}))
	})
	at := time.UnixMicro(early.Due())
	check := func(partition int, at time.Time, limit int, want ...string) {
		s.Helper()
		s.tx(func(ctx context.Context, tx sequencer.Tx) error {
			got, err := tx.Due(ctx, partition, at, limit)
			if !slices.Equal(got, want) {
				s.Errorf("due in %d at %s: %v, want %v", partition, at, got, want)
			}
			return err
		})
	}
	check(0, at.Add(-time.Microsecond), 10)
	check(0, at, 10, "s/early")
	check(0, at.Add(time.Hour), 10, "s/early", "s/late")
	check(0, at.Add(time.Hour), 1, "s/early")
	check(1, at.Add(time.Hour), 10, "s/other")
	check(2, at.Add(time.Hour), 10)
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		for partition, want := range []time.Time{at, at, {}} {
			if got, err := tx.NextDue(ctx, partition); err != nil || !got.Equal(want) {
				s.Errorf("next due in %d: %v, %v; want %v", partition, got, err, want)
			}
		}
		if err := tx.SetDocument(ctx, "s/early", 0, sequencer.State{Revision: 2}); err != nil {
			return err
		}
		if got, err := tx.NextDue(ctx, 0); err != nil || got.UnixMicro() != late.Due() {
			s.Errorf("next due after the earliest one is done: %v, %v", got, err)
		}
		return nil
	})
}

func (s *suite) ownWrites() {
	st := sequencer.State{Revision: 4}
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		if err := tx.Prefetch(ctx, []string{"s/a", "s/b", "s/a"}); err != nil {
			return err
		}
		if err := errors.Join(tx.SetDocument(ctx, "s/a", 0, st), tx.SetDocument(ctx, "s/c", 0, waitingState(now)), tx.SetDocument(ctx, "s/c/child", 0, st)); err != nil {
			return err
		}
		s.want(ctx, tx, "s/a", st)
		s.want(ctx, tx, "s/b", sequencer.State{})
		members, err := tx.Members(ctx, "s/c", "", 10)
		due, err2 := tx.Due(ctx, 0, now.Add(time.Hour), 10)
		if err := errors.Join(err, err2); err != nil || !slices.Equal(members, []string{"s/c/child"}) || !slices.Equal(due, []string{"s/c"}) {
			s.Errorf("members %v, due %v, %v", members, due, err)
		}
		if err := tx.Forget(ctx, "s/c/child"); err != nil {
			return err
		}
		s.want(ctx, tx, "s/c/child", sequencer.State{})
		return tx.SetDocument(ctx, "s/c/child", 0, sequencer.State{Revision: 7})
	})
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		s.want(ctx, tx, "s/c/child", sequencer.State{Revision: 7})
		return nil
	})
}

func (s *suite) held() {
	h := sequencer.Held{Event: []byte{0, 1, 0xff}, Headers: []stage.Header{{Key: "traceparent", Value: []byte("00-x")}}, At: now.Local()}
	s.tx(func(ctx context.Context, tx sequencer.Tx) error { return tx.Hold(ctx, "e", h) })
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		got, err := tx.Release(ctx, "e")
		if d := cmp.Diff(h, got); err != nil || d != "" {
			s.Errorf("%v (-want +got):\n%s", err, d)
		}
		for _, id := range []string{"e", "never"} {
			if _, err := tx.Release(ctx, id); !errors.Is(err, sequencer.ErrNotFound) {
				s.Errorf("%s: got %v, want ErrNotFound", id, err)
			}
		}
		return nil
	})
}

func (s *suite) members() {
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		var errs []error
		for _, k := range []string{"s/c/1", "s/c/Z", "s/c/a", "s/cx", "t/c/1", "s/c"} {
			errs = append(errs, tx.SetDocument(ctx, k, 0, sequencer.State{Revision: 1}))
		}
		errs = append(errs, tx.SetContainers(ctx, "s/\xff", []string{"s/c", "s/d"}), tx.SetContainers(ctx, "s/B", []string{"s/c"}), tx.SetContainers(ctx, "s/c/a", []string{"s/c"}),
			tx.SetContainers(ctx, "s/moved", []string{"s/c"}), tx.SetContainers(ctx, "s/moved", []string{"s/d", "s/d"}))
		return errors.Join(errs...)
	})
	check := func(container, after string, limit int, want ...string) {
		s.Helper()
		s.tx(func(ctx context.Context, tx sequencer.Tx) error {
			got, err := tx.Members(ctx, container, after, limit)
			if !slices.Equal(got, want) {
				s.Errorf("members of %q after %q: %q, want %q", container, after, got, want)
			}
			return err
		})
	}
	check("s/c", "", 10, "s/B", "s/c/1", "s/c/Z", "s/c/a", "s/\xff")
	check("s/c", "", 2, "s/B", "s/c/1")
	check("s/c", "s/c/1", 2, "s/c/Z", "s/c/a")
	check("s/c", "s/c/a", 2, "s/\xff")
	check("s/d", "", 10, "s/moved", "s/\xff")
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		return errors.Join(tx.SetContainers(ctx, "s/\xff", nil), tx.Forget(ctx, "s/c/a"), tx.Forget(ctx, "s/B"))
	})
	check("s/c", "", 10, "s/c/1", "s/c/Z")
}

func (s *suite) graves() {
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		return errors.Join(tx.SetGrave(ctx, "s/c", sequencer.Grave{Time: 5, At: 50}), tx.SetGrave(ctx, "s/c", sequencer.Grave{Time: 7, At: now.UnixMicro()}),
			tx.SetGrave(ctx, "t/x\x00", sequencer.Grave{Time: 1, At: now.Add(time.Hour).UnixMicro()}))
	})
	check := func(want map[string]bool, graves map[string]sequencer.Grave) {
		s.Helper()
		s.tx(func(ctx context.Context, tx sequencer.Tx) error {
			for source, has := range want {
				if got, err := tx.HasGraves(ctx, source); err != nil || got != has {
					s.Errorf("source %q has graves: %v, %v", source, got, err)
				}
			}
			for c, g := range graves {
				if got, err := tx.Grave(ctx, c); err != nil || got != g {
					s.Errorf("grave of %q: %+v, %v; want %+v", c, got, err, g)
				}
			}
			return nil
		})
	}
	kept := sequencer.Grave{Time: 1, At: now.Add(time.Hour).UnixMicro()}
	check(map[string]bool{"s": true, "t": true, "u": false, "": false}, map[string]sequencer.Grave{"s/c": {Time: 7, At: now.UnixMicro()}, "t/x\x00": kept, "s/d": {}})
	s.tx(func(ctx context.Context, tx sequencer.Tx) error { return tx.Expire(ctx, now, now, 10) })
	check(map[string]bool{"s": false, "t": true}, map[string]sequencer.Grave{"s/c": {}, "t/x\x00": kept})
}

func (s *suite) counts() {
	n := sequencer.Numbers{Gap: 7}
	for _, x := range []int64{1, 2, 5, 9} {
		n.Add(x, now.UnixMicro())
	}
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		if got, err := tx.Totals(ctx, 3); err != nil || got != (sequencer.Totals{}) {
			s.Errorf("%+v, %v", got, err)
		}
		if got, err := tx.Numbers(ctx, "s"); err != nil || got.Started {
			s.Errorf("%+v, %v", got, err)
		}
		return errors.Join(tx.SetTotals(ctx, 3, sequencer.Totals{Held: 2, Floor: 1 << 60}), tx.SetNumbers(ctx, "s", n))
	})
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		if got, err := tx.Totals(ctx, 3); err != nil || got != (sequencer.Totals{Held: 2, Floor: 1 << 60}) {
			s.Errorf("%+v, %v", got, err)
		}
		got, err := tx.Numbers(ctx, "s")
		if d := cmp.Diff(n, got); err != nil || d != "" {
			s.Errorf("%v (-want +got):\n%s", err, d)
		}
		return nil
	})
	if got, err := s.store.Numbers(s.Context(), "s"); err != nil || len(got) != 1 || got["s"].Upto != n.Upto {
		s.Errorf("%+v, %v", got, err)
	}
	if got, err := s.store.Numbers(s.Context(), "t"); err != nil || len(got) != 0 {
		s.Errorf("%+v, %v", got, err)
	}
}

func (s *suite) countsTogether() {
	const partitions, each = 4, 15
	done := make(chan error, partitions)
	for p := range partitions {
		go func() { done <- s.countIn(p+1, each, partitions) }()
	}
	for range partitions {
		if err := <-done; err != nil {
			s.Error(err)
		}
	}
	got, err := s.store.Numbers(s.Context(), "")
	if n := got["s"]; err != nil || n.Lost+int64(len(n.Spans)) != 0 || n.Upto != partitions*each {
		s.Errorf("%+v, %v: a number was lost", n, err)
	}
}

// countIn adds every n-th number, from p on, each in a transaction of its own.
func (s *suite) countIn(p, each, n int) error {
	pos, _, err := s.store.Claim(s.Context(), "in", p)
	if err != nil {
		return err
	}
	for i := range each {
		for {
			err := s.store.Update(s.Context(), func(ctx context.Context, tx sequencer.Tx) (stage.Advance, error) {
				numbers, err := tx.Numbers(ctx, "s")
				if err != nil {
					return stage.Advance{}, err
				}
				if !numbers.Started {
					numbers.Started = true
				}
				numbers.Add(int64(i*n+p), now.UnixMicro())
				return stage.Advance{Position: pos}, tx.SetNumbers(ctx, "s", numbers)
			})
			if err == nil {
				break
			}
			if s.Context().Err() != nil {
				return err
			}
		}
	}
	return nil
}

func (s *suite) records() {
	record := func(id, reason string) *sequencerv1.EventRecord {
		return &sequencerv1.EventRecord{Id: id, Reason: reason, Revision: 3, DecidedAt: timestamppb.New(now)}
	}
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		var errs []error
		for i := range 10 {
			errs = append(errs, tx.SetRecord(ctx, record(fmt.Sprint("e", i), "held"), now.Add(time.Duration(i)*time.Minute)))
		}
		return errors.Join(append(errs, tx.SetRecord(ctx, record("e0", "within"), now))...)
	})
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		return tx.SetRecord(ctx, record("e1", "released"), now.Add(time.Minute))
	})
	for id, reason := range map[string]string{"e0": "within", "e1": "released", "e2": "held"} {
		if got, err := s.store.Event(s.Context(), id); err != nil || !proto.Equal(got, record(id, reason)) {
			s.Errorf("%s: %v, %v", id, got, err)
		}
	}
	left := func() (n int) {
		for i := range 10 {
			if _, err := s.store.Event(s.Context(), fmt.Sprint("e", i)); err == nil {
				n++
			} else if !errors.Is(err, sequencer.ErrNotFound) {
				s.Error(err)
			}
		}
		return n
	}
	for _, want := range []int{7, 4, 4} {
		s.tx(func(ctx context.Context, tx sequencer.Tx) error {
			return tx.Expire(ctx, now.Add(5*time.Minute), now, 3)
		})
		if n := left(); n != want {
			s.Errorf("%d records are left, want %d", n, want)
		}
	}
}

func (s *suite) waiting() {
	s.tx(func(ctx context.Context, tx sequencer.Tx) error {
		return errors.Join(tx.SetDocument(ctx, "s/2", 0, waitingState(now.Add(2*time.Second))), tx.SetDocument(ctx, "s/1", 1, waitingState(now.Add(time.Second))),
			tx.SetDocument(ctx, "t/0", 0, waitingState(now)), tx.SetDocument(ctx, "s/none", 0, sequencer.State{Revision: 1}))
	})
	for _, tt := range []struct {
		source string
		limit  int
		want   []string
	}{{"", 10, []string{"t/0", "s/1", "s/2"}}, {"s", 10, []string{"s/1", "s/2"}}, {"s", 1, []string{"s/1"}}, {"u", 10, nil}} {
		states, keys, err := s.store.Waiting(s.Context(), tt.source, tt.limit)
		if err != nil || !slices.Equal(keys, tt.want) {
			s.Errorf("waiting in %q: %v, %v; want %v", tt.source, keys, err, tt.want)
		}
		for _, k := range keys {
			if len(states[k].Held) != 1 {
				s.Errorf("%s holds %d", k, len(states[k].Held))
			}
		}
	}
}

func (s *suite) large() {
	const n = 3001
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint("s/", i)
	}
	for round := range int64(2) {
		s.tx(func(ctx context.Context, tx sequencer.Tx) error {
			if err := tx.Prefetch(ctx, keys); err != nil {
				return err
			}
			for i, k := range keys {
				s.want(ctx, tx, k, sequencer.State{Revision: round * int64(i+1)})
				if err := errors.Join(tx.SetDocument(ctx, k, 0, sequencer.State{Revision: int64(i + 1)}), tx.SetRecord(ctx, &sequencerv1.EventRecord{Id: k}, now)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if r, err := s.store.Event(s.Context(), keys[n-1]); err != nil || r.GetId() != keys[n-1] {
		s.Errorf("%v, %v", r, err)
	}
}
