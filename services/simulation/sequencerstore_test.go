package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// sequencerStore is sequencer.Store in memory.
type sequencerStore struct {
	*memory[sequencer.Tx]
	t *sequencerTx
}

// sequencerTx keeps states encoded, so that none is changed in place.
type sequencerTx struct {
	documents *table[string, stored]
	members   *table[[2]string, bool]
	graves    *table[string, sequencer.Grave]
	held      *table[string, sequencer.Held]
	totals    *table[int, sequencer.Totals]
	numbers   *table[string, []byte]
	events    *table[string, kept]
}

type stored struct {
	partition int
	due       int64
	state     []byte
}

type kept struct {
	at time.Time
	*sequencerv1.EventRecord
}

func newSequencerStore(h hooks) *sequencerStore {
	t := &sequencerTx{newTable[string, stored](), newTable[[2]string, bool](), newTable[string, sequencer.Grave](), newTable[string, sequencer.Held](),
		newTable[int, sequencer.Totals](), newTable[string, []byte](), newTable[string, kept]()}
	return &sequencerStore{newMemory[sequencer.Tx](t, "sequencer", h, t.documents, t.members, t.graves, t.held, t.totals, t.numbers, t.events), t}
}

func (t *sequencerTx) Document(_ context.Context, key string) (s sequencer.State, err error) {
	if d, ok := t.documents.get(key); ok {
		err = json.Unmarshal(d.state, &s)
	}
	return s, err
}

func (t *sequencerTx) SetDocument(_ context.Context, key string, partition int, s sequencer.State) error {
	raw, err := json.Marshal(s)
	t.documents.put(key, stored{partition, s.Due(), raw})
	return err
}

func (t *sequencerTx) Forget(ctx context.Context, key string) error {
	t.documents.del(key)
	return t.SetContainers(ctx, key, nil)
}

func (t *sequencerTx) SetContainers(_ context.Context, key string, containers []string) error {
	for m := range t.members.all() {
		if m[1] == key {
			t.members.del(m)
		}
	}
	for _, c := range containers {
		t.members.put([2]string{c, key}, true)
	}
	return nil
}

func (t *sequencerTx) Members(_ context.Context, container, after string, limit int) ([]string, error) {
	var keys []string
	for m := range t.members.all() {
		if m[0] == container && m[1] > after {
			keys = append(keys, m[1])
		}
	}
	for k := range t.documents.all() {
		if k > after && strings.HasPrefix(k, container+"/") && k != container+"/" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys[:min(limit, len(keys))], nil
}

func (t *sequencerTx) HasGraves(_ context.Context, source string) (bool, error) {
	for c := range t.graves.all() {
		if strings.HasPrefix(c, source+"/") {
			return true, nil
		}
	}
	return false, nil
}

func (t *sequencerTx) Grave(_ context.Context, container string) (sequencer.Grave, error) {
	g, _ := t.graves.get(container)
	return g, nil
}

func (t *sequencerTx) SetGrave(_ context.Context, container string, g sequencer.Grave) error {
	t.graves.put(container, g)
	return nil
}

// due lists what is due in a partition, the earliest first.
func (t *sequencerTx) due(partition int) (keys []string, first int64) {
	all := t.documents.all()
	for k, d := range all {
		if d.partition == partition && d.due > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		if all[a].due != all[b].due {
			return int(all[a].due - all[b].due)
		}
		return strings.Compare(a, b)
	})
	if len(keys) > 0 {
		first = all[keys[0]].due
	}
	return keys, first
}

func (t *sequencerTx) Due(_ context.Context, partition int, now time.Time, limit int) ([]string, error) {
	keys, _ := t.due(partition)
	keys = slices.DeleteFunc(keys, func(k string) bool {
		d, _ := t.documents.get(k)
		return d.due > now.UnixMicro()
	})
	return keys[:min(limit, len(keys))], nil
}

func (t *sequencerTx) NextDue(_ context.Context, partition int) (time.Time, error) {
	if _, first := t.due(partition); first > 0 {
		return time.UnixMicro(first), nil
	}
	return time.Time{}, nil
}

func (t *sequencerTx) Hold(_ context.Context, id string, h sequencer.Held) error {
	h.Event = bytes.Clone(h.Event)
	t.held.put(id, h)
	return nil
}

func (t *sequencerTx) Release(_ context.Context, id string) (sequencer.Held, error) {
	h, ok := t.held.get(id)
	if !ok {
		return h, sequencer.ErrNotFound
	}
	t.held.del(id)
	return h, nil
}

func (t *sequencerTx) Totals(_ context.Context, partition int) (sequencer.Totals, error) {
	n, _ := t.totals.get(partition)
	return n, nil
}

func (t *sequencerTx) SetTotals(_ context.Context, partition int, n sequencer.Totals) error {
	t.totals.put(partition, n)
	return nil
}

func (t *sequencerTx) Numbers(_ context.Context, source string) (n sequencer.Numbers, err error) {
	if raw, ok := t.numbers.get(source); ok {
		err = json.Unmarshal(raw, &n)
	}
	return n, err
}

func (t *sequencerTx) SetNumbers(_ context.Context, source string, n sequencer.Numbers) error {
	raw, err := json.Marshal(n)
	t.numbers.put(source, raw)
	return err
}

func (t *sequencerTx) SetRecord(_ context.Context, r *sequencerv1.EventRecord, now time.Time) error {
	t.events.put(r.GetId(), kept{now, r})
	return nil
}

func (t *sequencerTx) Expire(_ context.Context, records, graves time.Time, limit int) error {
	expire(t.events, limit, func(k kept) bool { return !k.at.After(records) })
	expire(t.graves, limit, func(g sequencer.Grave) bool { return g.At <= graves.UnixMicro() })
	return nil
}

func (s *sequencerStore) Document(_ context.Context, key string) (st sequencer.State, err error) {
	err = sequencer.ErrNotFound
	s.read(func() {
		if _, ok := s.t.documents.get(key); ok {
			st, err = s.t.Document(context.Background(), key)
		}
	})
	return st, err
}

func (s *sequencerStore) Event(_ context.Context, id string) (r *sequencerv1.EventRecord, err error) {
	err = sequencer.ErrNotFound
	s.read(func() {
		if k, ok := s.t.events.get(id); ok {
			r, err = k.EventRecord, nil
		}
	})
	return r, err
}

func (s *sequencerStore) Waiting(_ context.Context, source string, limit int) (states map[string]sequencer.State, keys []string, err error) {
	states = map[string]sequencer.State{}
	s.read(func() {
		for k, d := range s.t.documents.all() {
			var st sequencer.State
			if err = json.Unmarshal(d.state, &st); err == nil && len(st.Held) > 0 && (source == "" || strings.HasPrefix(k, source+"/")) {
				keys, states[k] = append(keys, k), st
			}
		}
	})
	slices.SortFunc(keys, func(a, b string) int {
		x, y := states[a], states[b]
		return int(x.Due() - y.Due())
	})
	return states, keys[:min(limit, len(keys))], err
}

func (s *sequencerStore) Numbers(_ context.Context, source string) (all map[string]sequencer.Numbers, err error) {
	all = map[string]sequencer.Numbers{}
	s.read(func() {
		for name := range s.t.numbers.all() {
			if source == "" || source == name {
				all[name], err = s.t.Numbers(context.Background(), name)
			}
		}
	})
	return all, err
}
