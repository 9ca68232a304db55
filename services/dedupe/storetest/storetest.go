// Package storetest holds what every implementation of dedupe.Store must do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
)

// Fixture is a store under test.
type Fixture struct {
	Store dedupe.Store
	// Reopen closes the store and opens it again over the same data; nil: its data does not outlive it.
	Reopen func(t *testing.T) Fixture
}

// Run runs the suite. open returns an empty store each time.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Run("stage", func(t *testing.T) {
		stagetest.RunStore(t, func(t *testing.T) stagetest.StoreFixture[dedupe.Tx] { return stageFixture(open(t)) })
	})
	for _, tt := range []struct {
		name string
		run  func(*suite)
	}{
		{"a key is remembered until it expires, and can be remembered anew", (*suite).keys},
		{"ids of any shape come back as they were", (*suite).ids},
		{"the newest event of a document comes back with every field", (*suite).newest},
		{"a transaction sees its own writes, prefetched or not", (*suite).ownWrites},
		{"records are found by id, and listed newest first by source and document", (*suite).records},
		{"a key can be forgotten", (*suite).forget},
		{"records older than the retention go, the others stay", (*suite).expire},
		{"a batch of thousands is read and written whole", (*suite).large},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(newSuite(t, open(t).Store)) })
	}
}

func stageFixture(f Fixture) stagetest.StoreFixture[dedupe.Tx] {
	s := stagetest.StoreFixture[dedupe.Tx]{
		Store: f.Store,
		Put: func(ctx context.Context, tx dedupe.Tx, name string) error {
			return tx.Remember(ctx, dedupe.KeyOf("s", name), dedupe.First{EventID: name, Expires: now.Add(time.Hour)})
		},
		Has: func(ctx context.Context, name string) (bool, error) {
			found, err := f.Store.Lookup(ctx, []dedupe.Key{dedupe.KeyOf("s", name)}, now)
			return err == nil && found[0] != nil, err
		},
	}
	if f.Reopen != nil {
		s.Reopen = func(t *testing.T) stagetest.StoreFixture[dedupe.Tx] { return stageFixture(f.Reopen(t)) }
	}
	return s
}

// now is the suite's clock. Stores keep microseconds.
var now = time.Date(2026, 11, 23, 12, 0, 0, 123_000, time.UTC)

type suite struct {
	*testing.T
	store dedupe.Store
	pos   stage.Position
}

func newSuite(t *testing.T, store dedupe.Store) *suite {
	t.Helper()
	pos, _, err := store.Claim(t.Context(), "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	return &suite{T: t, store: store, pos: pos}
}

// tx runs fn in a transaction.
func (s *suite) tx(fn func(ctx context.Context, tx dedupe.Tx) error) {
	s.Helper()
	err := s.store.Update(s.Context(), func(ctx context.Context, tx dedupe.Tx) (stage.Advance, error) {
		return stage.Advance{Position: s.pos}, fn(ctx, tx)
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) wantFirst(ctx context.Context, tx dedupe.Tx, key dedupe.Key, at time.Time, want *dedupe.First) {
	s.Helper()
	got, err := tx.First(ctx, key, at)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		s.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func (s *suite) keys() {
	key := dedupe.KeyOf("s", "k")
	first := dedupe.First{EventID: "e1", Partition: 3, Offset: 1 << 40, Expires: now.Add(time.Hour).Local()}
	second := dedupe.First{EventID: "e2", Offset: 7, Expires: now.Add(3 * time.Hour).Local()}
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		s.wantFirst(ctx, tx, key, now, nil)
		return tx.Remember(ctx, key, first)
	})
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		s.wantFirst(ctx, tx, key, first.Expires.Add(-time.Microsecond), &first)
		s.wantFirst(ctx, tx, key, first.Expires, nil)
		s.wantFirst(ctx, tx, dedupe.KeyOf("t", "k"), now, nil)
		return tx.Remember(ctx, key, second)
	})
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		s.wantFirst(ctx, tx, key, now.Add(2*time.Hour), &second)
		return nil
	})
	found, err := s.store.Lookup(s.Context(), []dedupe.Key{dedupe.KeyOf("s", "no"), key, key}, now.Add(2*time.Hour))
	if d := cmp.Diff([]*dedupe.First{nil, &second, &second}, found); err != nil || d != "" {
		s.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func (s *suite) ids() {
	for i, id := range []string{
		"0198c0de-aaaa-7bbb-8ccc-0123456789ab", "0198C0DE-AAAA-7BBB-8CCC-0123456789AB", "sixteen bytes id", "ünï/códe 'quoted' \"x\"", "{0198c0de-aaaa-7bbb-8ccc-0123456789ab}",
		"0198c0deaaaa7bbb8ccc0123456789ab", "0198c0de-aaaa-7bbb-8ccc-0123456789ab.0011223344556677",
	} {
		key, doc := dedupe.KeyOf("ids", fmt.Sprint(i)), fmt.Appendf(nil, "s/%d", i)
		s.tx(func(ctx context.Context, tx dedupe.Tx) error {
			if known, err := tx.Decided(ctx, id); err != nil || known {
				s.Errorf("%q is decided before it is: %v", id, err)
			}
			return errors.Join(tx.Remember(ctx, key, dedupe.First{EventID: id, Expires: now.Add(time.Hour)}),
				tx.SetNewest(ctx, doc, dedupe.Newest{EventID: id, Expires: now.Add(time.Hour)}),
				tx.Record(ctx, &dedupev1.EventRecord{Id: id, Source: "s", DocumentId: fmt.Sprint(i), DecidedAt: timestamppb.New(now)}))
		})
		s.tx(func(ctx context.Context, tx dedupe.Tx) error {
			f, err := tx.First(ctx, key, now)
			n, err2 := tx.Newest(ctx, doc, now)
			known, err3 := tx.Decided(ctx, id)
			if err := errors.Join(err, err2, err3); err != nil || f == nil || f.EventID != id || n == nil || n.EventID != id || !known {
				s.Errorf("%q: %+v, %+v, %v, %v", id, f, n, known, err)
			}
			return nil
		})
		if r, err := s.store.Event(s.Context(), id); err != nil || r.GetId() != id {
			s.Errorf("%q: %v, %v", id, r, err)
		}
	}
}

func (s *suite) newest() {
	docs := [][]byte{[]byte("s/plain"), []byte("s/with\x00zero"), []byte("s/\xff\xfe"), []byte("s/ünï")}
	want := []dedupe.Newest{
		{EventID: "a", Hash: []byte{0, 1, 0xff}, Version: "v1", Expires: now.Add(time.Hour).Local()},
		{EventID: "b", Version: "", Deleted: true, Polled: now.Add(-time.Minute).Local(), Expires: now.Add(time.Hour).Local()},
		{EventID: "c", Expires: now.Add(time.Hour).Local()},
		{EventID: "d", Version: "ünï", Expires: now.Add(time.Microsecond).Local()},
	}
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		for i, d := range docs {
			if err := tx.SetNewest(ctx, d, want[i]); err != nil {
				return err
			}
		}
		return nil
	})
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		for i, d := range docs {
			got, err := tx.Newest(ctx, d, now)
			if err != nil || got == nil {
				s.Fatalf("%q: %v, %v", d, got, err)
			}
			if len(got.Hash) == 0 {
				got.Hash = nil
			}
			if d := cmp.Diff(want[i], *got); d != "" {
				s.Errorf("(-want +got):\n%s", d)
			}
		}
		if got, err := tx.Newest(ctx, docs[3], now.Add(time.Microsecond)); err != nil || got != nil {
			s.Errorf("expired, yet %v, %v", got, err)
		}
		// What no text of the database may hold stops no partition.
		odd := dedupe.Newest{EventID: "e", Version: "1\x00 'quoted'", Expires: now.Add(time.Hour)}
		return errors.Join(tx.SetNewest(ctx, docs[0], want[2]), tx.SetNewest(ctx, docs[1], odd))
	})
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		if got, err := tx.Newest(ctx, docs[0], now); err != nil || got == nil || got.EventID != "c" || len(got.Hash) != 0 || got.Version != "" {
			s.Errorf("not replaced: %+v, %v", got, err)
		}
		if got, err := tx.Newest(ctx, docs[1], now); err != nil || got == nil || got.EventID != "e" || strings.ReplaceAll(got.Version, "\uFFFD", "\x00") != "1\x00 'quoted'" {
			s.Errorf("a version with a zero byte: %+v, %v", got, err)
		}
		return nil
	})
}

func (s *suite) ownWrites() {
	old, fresh := dedupe.KeyOf("s", "old"), dedupe.KeyOf("s", "fresh")
	first := dedupe.First{EventID: "e", Expires: now.Add(time.Hour).Local()}
	s.tx(func(ctx context.Context, tx dedupe.Tx) error { return tx.Remember(ctx, old, first) })
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		if err := tx.Prefetch(ctx, dedupe.Wanted{Events: []string{"x", "x"}, Keys: []dedupe.Key{old, fresh, old}, Documents: []string{"s/d", "s/d"}}); err != nil {
			return err
		}
		s.wantFirst(ctx, tx, old, now, &first)
		s.wantFirst(ctx, tx, fresh, now, nil)
		replaced := dedupe.First{EventID: "f", Expires: now.Add(time.Minute).Local()}
		if err := errors.Join(tx.Remember(ctx, fresh, first), tx.Remember(ctx, fresh, replaced), tx.SetNewest(ctx, []byte("s/d"), dedupe.Newest{EventID: "n", Expires: now.Add(time.Hour)}),
			tx.Record(ctx, &dedupev1.EventRecord{Id: "x", Source: "s", DocumentId: "d", DecidedAt: timestamppb.New(now)})); err != nil {
			return err
		}
		s.wantFirst(ctx, tx, fresh, now, &replaced)
		n, err := tx.Newest(ctx, []byte("s/d"), now)
		known, err2 := tx.Decided(ctx, "x")
		if err := errors.Join(err, err2); err != nil || n == nil || n.EventID != "n" || !known {
			s.Errorf("%+v, %v, %v", n, known, err)
		}
		return tx.Prefetch(ctx, dedupe.Wanted{})
	})
}

func (s *suite) record(tx dedupe.Tx, id, source, document string, at time.Time) error {
	return tx.Record(s.Context(), &dedupev1.EventRecord{Id: id, Source: source, DocumentId: document, DecidedAt: timestamppb.New(at), DuplicateOf: "of-" + id})
}

func (s *suite) wantEvents(source, document string, limit int, want ...string) {
	s.Helper()
	list, err := s.store.Events(s.Context(), source, document, limit)
	var got []string
	for _, r := range list {
		got = append(got, r.GetId())
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("events of %q/%q, at most %d: %v, %v; want %v", source, document, limit, got, err, want)
	}
}

func (s *suite) records() {
	for _, batch := range [][][3]string{{{"1", "s", "a"}, {"2", "s", "b"}, {"3", "s", "a"}}, {{"4", "t", "a"}, {"5", "s", "a"}}, {{"6", "s", "b"}}} {
		s.tx(func(_ context.Context, tx dedupe.Tx) error {
			for _, e := range batch {
				if err := s.record(tx, e[0], e[1], e[2], now); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.wantEvents("", "", 10, "6", "5", "4", "3", "2", "1")
	s.wantEvents("", "", 2, "6", "5")
	s.wantEvents("s", "", 10, "6", "5", "3", "2", "1")
	s.wantEvents("s", "a", 10, "5", "3", "1")
	s.wantEvents("s", "a", 2, "5", "3")
	s.wantEvents("", "a", 10, "5", "4", "3", "1")
	s.wantEvents("s", "none", 10)
	want := &dedupev1.EventRecord{Id: "3", Source: "s", DocumentId: "a", DecidedAt: timestamppb.New(now), DuplicateOf: "of-3"}
	if r, err := s.store.Event(s.Context(), "3"); err != nil || !proto.Equal(r, want) {
		s.Errorf("%v, %v", r, err)
	}
	if _, err := s.store.Event(s.Context(), "7"); !errors.Is(err, dedupe.ErrNotFound) {
		s.Errorf("got %v, want ErrNotFound", err)
	}
}

func (s *suite) forget() {
	key := dedupe.KeyOf("s", "k")
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		return tx.Remember(ctx, key, dedupe.First{EventID: "e", Expires: now.Add(time.Hour)})
	})
	for _, want := range []bool{true, false} {
		if got, err := s.store.Forget(s.Context(), key); err != nil || got != want {
			s.Errorf("forgotten: %v, %v; want %v", got, err, want)
		}
	}
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		s.wantFirst(ctx, tx, key, now, nil)
		return nil
	})
}

func (s *suite) expire() {
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		for i := range 30 {
			at := now.Add(time.Duration(i) * time.Hour)
			if err := errors.Join(s.record(tx, fmt.Sprint("e", i), "s", fmt.Sprint(i%3), at),
				tx.Remember(ctx, dedupe.KeyOf("s", fmt.Sprint(i)), dedupe.First{EventID: "e", Expires: at}),
				tx.SetNewest(ctx, fmt.Appendf(nil, "s/%d", i%3), dedupe.Newest{EventID: "e", Expires: at})); err != nil {
				return err
			}
		}
		return nil
	})
	later := now.Add(29 * time.Hour)
	for range 30 { // a call deletes a bounded number
		s.tx(func(ctx context.Context, tx dedupe.Tx) error { return tx.Expire(ctx, later, 10*time.Hour, 5) })
	}
	for i := range 30 {
		_, err := s.store.Event(s.Context(), fmt.Sprint("e", i))
		if gone := errors.Is(err, dedupe.ErrNotFound); gone != (i <= 19) || (err != nil && !gone) {
			s.Errorf("event %d, %d hours old: %v", i, 29-i, err)
		}
	}
	s.wantEvents("s", "2", 10, "e29", "e26", "e23", "e20")
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		for i := range 3 { // the last ones expire at 27, 28 and 29 hours
			if n, err := tx.Newest(ctx, fmt.Appendf(nil, "s/%d", i), later); err != nil || n != nil {
				s.Errorf("document %d: %v, %v", i, n, err)
			}
		}
		return s.record(tx, "e30", "s", "2", later)
	})
	s.wantEvents("s", "2", 2, "e30", "e29")
}

func (s *suite) large() {
	const n = 3001
	var w dedupe.Wanted
	for i := range n {
		w.Events = append(w.Events, fmt.Sprint("event-", i))
		w.Keys = append(w.Keys, dedupe.KeyOf("s", fmt.Sprint(i)))
		w.Documents = append(w.Documents, fmt.Sprint("s/", i))
	}
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		for i := range n {
			if err := errors.Join(s.record(tx, w.Events[i], "s", fmt.Sprint(i), now),
				tx.Remember(ctx, w.Keys[i], dedupe.First{EventID: w.Events[i], Offset: int64(i), Expires: now.Add(time.Hour)}),
				tx.SetNewest(ctx, []byte(w.Documents[i]), dedupe.Newest{EventID: w.Events[i], Expires: now.Add(time.Hour)})); err != nil {
				return err
			}
		}
		return nil
	})
	s.tx(func(ctx context.Context, tx dedupe.Tx) error {
		if err := tx.Prefetch(ctx, w); err != nil {
			return err
		}
		for i := range n {
			f, err := tx.First(ctx, w.Keys[i], now)
			d, err2 := tx.Newest(ctx, []byte(w.Documents[i]), now)
			known, err3 := tx.Decided(ctx, w.Events[i])
			if err := errors.Join(err, err2, err3); err != nil || f == nil || f.Offset != int64(i) || d == nil || d.EventID != w.Events[i] || !known {
				s.Fatalf("%d: %+v, %+v, %v, %v", i, f, d, known, err)
			}
		}
		return nil
	})
}
