package simulation

import (
	"context"
	"fmt"
	"slices"
	"time"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
)

// dedupeStore is dedupe.Store in memory.
type dedupeStore struct {
	*memory[dedupe.Tx]
	t *dedupeTx
}

type dedupeTx struct {
	keys   *table[dedupe.Key, dedupe.First]
	newest *table[string, dedupe.Newest]
	events *table[string, record]
	count  int
}

type record struct {
	number int
	*dedupev1.EventRecord
}

func newDedupeStore(h hooks) *dedupeStore {
	t := &dedupeTx{keys: newTable[dedupe.Key, dedupe.First](), newest: newTable[string, dedupe.Newest](), events: newTable[string, record]()}
	return &dedupeStore{newMemory[dedupe.Tx](t, "dedupe", h, t.keys, t.newest, t.events), t}
}

func (t *dedupeTx) Decided(_ context.Context, id string) (bool, error) {
	_, ok := t.events.get(id)
	return ok, nil
}

func (t *dedupeTx) First(_ context.Context, k dedupe.Key, now time.Time) (*dedupe.First, error) {
	if f, ok := t.keys.get(k); ok && f.Expires.After(now) {
		return &f, nil
	}
	return nil, nil
}

func (t *dedupeTx) Remember(_ context.Context, k dedupe.Key, f dedupe.First) error {
	t.keys.put(k, f)
	return nil
}

func (t *dedupeTx) Newest(_ context.Context, document []byte, now time.Time) (*dedupe.Newest, error) {
	if n, ok := t.newest.get(string(document)); ok && n.Expires.After(now) {
		return &n, nil
	}
	return nil, nil
}

func (t *dedupeTx) SetNewest(_ context.Context, document []byte, n dedupe.Newest) error {
	t.newest.put(string(document), n)
	return nil
}

func (t *dedupeTx) Record(_ context.Context, r *dedupev1.EventRecord) error {
	if _, ok := t.events.get(r.GetId()); ok {
		return fmt.Errorf("event %s is recorded already", r.GetId())
	}
	t.count++
	t.events.put(r.GetId(), record{t.count, r})
	return nil
}

func (t *dedupeTx) Expire(_ context.Context, now time.Time, retention time.Duration, limit int) error {
	expire(t.keys, limit, func(f dedupe.First) bool { return !f.Expires.After(now) })
	expire(t.newest, limit, func(n dedupe.Newest) bool { return !n.Expires.After(now) })
	expire(t.events, limit, func(r record) bool { return !r.GetDecidedAt().AsTime().After(now.Add(-retention)) })
	return nil
}

func expire[K comparable, V any](t *table[K, V], limit int, over func(V) bool) {
	for k, v := range t.all() {
		if over(v) && limit > 0 {
			t.del(k)
			limit--
		}
	}
}

func (s *dedupeStore) Lookup(_ context.Context, keys []dedupe.Key, now time.Time) (found []*dedupe.First, err error) {
	s.read(func() {
		for _, k := range keys {
			f, _ := s.t.First(context.Background(), k, now)
			found = append(found, f)
		}
	})
	return found, nil
}

func (s *dedupeStore) Forget(ctx context.Context, k dedupe.Key) (ok bool, err error) {
	return ok, s.transaction(ctx, func() error {
		_, ok = s.t.keys.get(k)
		s.t.keys.del(k)
		return nil
	})
}

func (s *dedupeStore) Event(_ context.Context, id string) (r *dedupev1.EventRecord, err error) {
	err = dedupe.ErrNotFound
	s.read(func() {
		if rec, ok := s.t.events.get(id); ok {
			r, err = rec.EventRecord, nil
		}
	})
	return r, err
}

func (s *dedupeStore) Events(_ context.Context, source, document string, limit int) (out []*dedupev1.EventRecord, err error) {
	s.read(func() {
		var all []record
		for _, r := range s.t.events.all() {
			if (source == "" || r.GetSource() == source) && (document == "" || r.GetDocumentId() == document) {
				all = append(all, r)
			}
		}
		slices.SortFunc(all, func(a, b record) int { return b.number - a.number })
		for _, r := range all[:min(limit, len(all))] {
			out = append(out, r.EventRecord)
		}
	})
	return out, nil
}
