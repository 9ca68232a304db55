package simulation

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler"
)

// reconcilerStore is reconciler.Store in memory.
type reconcilerStore struct {
	*memory[reconciler.Tx]
	t *reconcilerTx
	// source watches debts and cursors; nil: nobody does.
	source *source
}

type reconcilerTx struct {
	cursors *table[string, polled]
	debts   *table[documentID, owed]
	paid    *table[string, int64]
	// writtenOff counts like paid.
	writtenOff *table[string, int64]
	letters    *table[string, reconciler.DeadLetter]
	leases     *table[string, reconciler.Lease]
	states     *table[stateKey, []byte]
	count      int64
	source     *source
}

// polled is how far a source was polled.
type polled struct {
	cursor string
	at     time.Time
}

// owed is an open debt and its place among those of the source.
type owed struct {
	number int64
	reconciler.Debt
}

type stateKey struct{ kind, source string }

func newReconcilerStore(h hooks, watch *source) *reconcilerStore {
	t := &reconcilerTx{cursors: newTable[string, polled](), debts: newTable[documentID, owed](), paid: newTable[string, int64](), writtenOff: newTable[string, int64](),
		letters: newTable[string, reconciler.DeadLetter](), leases: newTable[string, reconciler.Lease](), states: newTable[stateKey, []byte](), source: watch}
	tables := []transactional{t.cursors, t.debts, t.paid, t.writtenOff, t.letters, t.leases, t.states}
	if watch != nil {
		tables = append(tables, watch)
	}
	return &reconcilerStore{newMemory[reconciler.Tx](t, "reconciler", h, tables...), t, watch}
}

// act is a transaction of the service's own. The goroutines of one process take their steps side by side, so that each says what it does.
func (s *reconcilerStore) act(ctx context.Context, what string, fn func() error) error {
	return s.memory.act(ctx, s.name+" "+what, fn)
}

// look reads. It is a step too, so that who has read goes on alone.
func (s *reconcilerStore) look(ctx context.Context, what string, fn func()) error {
	s.read(fn)
	return s.step(ctx, "has read "+what)
}

// next counts for good: a number is not given twice, also not after a transaction that failed.
func (t *reconcilerTx) next() int64 {
	t.count++
	return t.count
}

func (t *reconcilerTx) AddDebt(_ context.Context, d *eventv1.Debt) error {
	k := documentID{d.GetSource(), d.GetDocumentId()}
	old, open := t.debts.get(k)
	switch {
	case !open:
		n := t.next()
		t.debts.put(k, owed{n, reconciler.Debt{Debt: proto.CloneOf(d), Version: n}})
	case d.GetReason() == "RESYNC": // asks for more than what was owed
		t.debts.put(k, owed{old.number, reconciler.Debt{Debt: proto.CloneOf(d), Version: t.next()}})
	default:
		t.debts.put(k, owed{old.number, reconciler.Debt{Debt: old.Debt.Debt, Version: t.next()}})
	}
	now, _ := t.debts.get(k)
	t.source.owes(now.Debt.Debt, now.Version) // a RESYNC stays one, whatever is owed besides
	return nil
}

func (t *reconcilerTx) AddDeadLetter(_ context.Context, d *eventv1.DeadLetter) error {
	old, kept := t.letters.get(d.GetId())
	if kept && !d.GetFailedAt().AsTime().After(old.Letter.GetFailedAt().AsTime()) {
		return nil
	}
	n := t.next()
	t.source.buries(d, n)
	t.letters.put(d.GetId(), reconciler.DeadLetter{Number: n, Letter: proto.CloneOf(d), Status: &reconcilerv1.DeadLetterStatus{
		Id: d.GetId(), State: reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN, Replays: old.Status.GetReplays()}})
	return nil
}

func (t *reconcilerTx) Expire(_ context.Context, before time.Time, limit int) error {
	var over []reconciler.DeadLetter
	for _, d := range t.letters.all() {
		if !d.Letter.GetFailedAt().AsTime().After(before) {
			over = append(over, d)
		}
	}
	slices.SortFunc(over, func(a, b reconciler.DeadLetter) int {
		return cmp.Or(a.Letter.GetFailedAt().AsTime().Compare(b.Letter.GetFailedAt().AsTime()), cmp.Compare(a.Number, b.Number))
	})
	for _, d := range over[:min(limit, len(over))] {
		t.letters.del(d.Letter.GetId())
	}
	return nil
}

func (s *reconcilerStore) Cursor(ctx context.Context, source string) (cursor string, at time.Time, err error) {
	err = s.look(ctx, "the cursor of "+source, func() {
		p, _ := s.t.cursors.get(source)
		cursor, at = p.cursor, p.at
	})
	return cursor, at, err
}

func (s *reconcilerStore) SetCursor(ctx context.Context, source, cursor string, at time.Time) error {
	return s.act(ctx, "cursor of "+source, func() error {
		s.source.moved(source, cursor)
		if old, _ := s.t.cursors.get(source); old.at.After(at) { // the time of the last whole poll does not go back
			at = old.at
		}
		s.t.cursors.put(source, polled{cursor, at})
		return nil
	})
}

func (s *reconcilerStore) Debts(ctx context.Context, source string, limit int) (out []reconciler.Debt, err error) {
	err = s.look(ctx, "the debts of "+source, func() {
		var all []owed
		for k, d := range s.t.debts.all() {
			if k.source == source {
				all = append(all, d)
			}
		}
		slices.SortFunc(all, func(a, b owed) int { return cmp.Compare(a.number, b.number) })
		for _, d := range all[:min(limit, len(all))] {
			out = append(out, reconciler.Debt{Debt: proto.CloneOf(d.Debt.Debt), Version: d.Version})
		}
	})
	return out, err
}

func (s *reconcilerStore) DebtSources(ctx context.Context) (names []string, err error) {
	err = s.look(ctx, "who owes", func() {
		for k := range s.t.debts.all() {
			names = append(names, k.source)
		}
	})
	slices.Sort(names)
	return slices.Compact(names), err
}

func (s *reconcilerStore) Pay(ctx context.Context, debts []reconciler.Debt) error {
	return s.act(ctx, "payment", func() error {
		for _, d := range debts {
			k := documentID{d.GetSource(), d.GetDocumentId()}
			if open, ok := s.t.debts.get(k); ok && open.Version == d.Version {
				s.t.debts.del(k)
				s.source.pays(d.Debt, d.Version)
				n, _ := s.t.paid.get(k.source)
				s.t.paid.put(k.source, n+1)
			}
		}
		return nil
	})
}

func (s *reconcilerStore) WriteOff(ctx context.Context, source string, documents []string) (n int64, err error) {
	err = s.act(ctx, "write-off", func() error {
		n = 0
		for k := range s.t.debts.all() {
			if k.source == source && (documents == nil || slices.Contains(documents, k.id)) {
				s.t.debts.del(k)
				n++
			}
		}
		old, _ := s.t.writtenOff.get(source)
		s.t.writtenOff.put(source, old+n)
		return nil
	})
	return n, err
}

func (s *reconcilerStore) CountDebts(ctx context.Context, source string) (c reconciler.DebtCount, err error) {
	err = s.look(ctx, "how much is owed by "+source, func() {
		for k := range s.t.debts.all() {
			if k.source == source {
				c.Open++
			}
		}
		c.Paid, _ = s.t.paid.get(source)
		c.WrittenOff, _ = s.t.writtenOff.get(source)
	})
	return c, err
}

// matching returns the letters that a filter selects, oldest first.
func (s *reconcilerStore) matching(ctx context.Context, f reconciler.DeadFilter) (out []reconciler.DeadLetter, err error) {
	err = s.look(ctx, "dead letters", func() {
		for id, d := range s.t.letters.all() {
			l, at := d.Letter, d.Letter.GetFailedAt().AsTime()
			if (len(f.IDs) == 0 || slices.Contains(f.IDs, id)) && (f.Source == "" || l.GetSource() == f.Source) && (f.Document == "" || l.GetDocumentId() == f.Document) &&
				(f.Stage == "" || l.GetStage() == f.Stage) && (f.Code == "" || l.GetCode() == f.Code) && (f.State == 0 || d.Status.GetState() == f.State) &&
				(f.From.IsZero() || !at.Before(f.From)) && (f.To.IsZero() || at.Before(f.To)) {
				out = append(out, cloneLetter(d))
			}
		}
	})
	slices.SortFunc(out, func(a, b reconciler.DeadLetter) int { return cmp.Compare(a.Number, b.Number) })
	return out, err
}

func cloneLetter(d reconciler.DeadLetter) reconciler.DeadLetter {
	return reconciler.DeadLetter{Number: d.Number, Letter: proto.CloneOf(d.Letter), Status: proto.CloneOf(d.Status)}
}

func (s *reconcilerStore) DeadLetters(ctx context.Context, f reconciler.DeadFilter, before int64, limit int) ([]reconciler.DeadLetter, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	all, err := s.matching(ctx, f)
	all = slices.DeleteFunc(all, func(d reconciler.DeadLetter) bool { return d.Number >= before })
	slices.Reverse(all)
	return all[:min(limit, len(all))], err
}

func (s *reconcilerStore) OldestDeadLetters(ctx context.Context, f reconciler.DeadFilter, after int64, limit int) ([]reconciler.DeadLetter, error) {
	all, err := s.matching(ctx, f)
	all = slices.DeleteFunc(all, func(d reconciler.DeadLetter) bool { return d.Number <= after })
	return all[:min(limit, len(all))], err
}

func (s *reconcilerStore) DeadLetter(ctx context.Context, id string) (d reconciler.DeadLetter, err error) {
	found := reconciler.ErrNotFound
	err = s.look(ctx, "a dead letter", func() {
		if kept, ok := s.t.letters.get(id); ok {
			d, found = cloneLetter(kept), nil
		}
	})
	return d, cmp.Or(err, found)
}

func (s *reconcilerStore) ResolveDeadLetter(ctx context.Context, number int64, state reconcilerv1.DeadLetterState, traceID string, now time.Time) (was bool, err error) {
	err = s.act(ctx, fmt.Sprint("letter ", number), func() error {
		for id, d := range s.t.letters.all() {
			if d.Number != number || d.Status.GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN {
				continue
			}
			d = cloneLetter(d)
			d.Status.State, d.Status.ResolvedAt = state, timestamppb.New(now)
			if state == reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED {
				d.Status.Replays++
				s.source.replayed(d.Letter, number)
			}
			d.Status.ReplayTraceId = cmp.Or(traceID, d.Status.GetReplayTraceId())
			s.t.letters.put(id, d)
			was = true
		}
		return nil
	})
	return was && err == nil, err
}

func (s *reconcilerStore) CountDeadLetters(ctx context.Context, f reconciler.DeadFilter) (int64, error) {
	all, err := s.matching(ctx, f)
	return int64(len(all)), err
}

func (s *reconcilerStore) AcquireLease(ctx context.Context, name, owner string, now, until time.Time) (got bool, err error) {
	err = s.act(ctx, "lease "+name, func() error {
		held, ok := s.t.leases.get(name)
		if got = !ok || held.Owner == owner || !held.Until.After(now); got {
			s.t.leases.put(name, reconciler.Lease{Name: name, Owner: owner, Until: until})
		}
		return nil
	})
	return got && err == nil, err
}

func (s *reconcilerStore) ReleaseLease(ctx context.Context, name, owner string) error {
	return s.act(ctx, "end of lease "+name, func() error {
		if held, ok := s.t.leases.get(name); ok && held.Owner == owner {
			s.t.leases.del(name)
		}
		return nil
	})
}

func (s *reconcilerStore) Leases(ctx context.Context, now time.Time) (out []reconciler.Lease, err error) {
	err = s.look(ctx, "the leases", func() {
		for _, l := range s.t.leases.all() {
			if l.Until.After(now) {
				out = append(out, l)
			}
		}
	})
	slices.SortFunc(out, func(a, b reconciler.Lease) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

func (s *reconcilerStore) State(ctx context.Context, kind, source string) (state []byte, err error) {
	err = s.look(ctx, "the "+kind+" of "+source, func() {
		kept, _ := s.t.states.get(stateKey{kind, source})
		s.source.looked(ctx, kind, source)
		state = slices.Clone(kept)
	})
	if err != nil {
		s.source.notKept(ctx, kind, source)
	}
	return state, err
}

func (s *reconcilerStore) SetState(ctx context.Context, kind, source string, state []byte) error {
	err := s.act(ctx, kind+" of "+source, func() error {
		s.source.keeps(ctx, kind, source, state)
		s.t.states.put(stateKey{kind, source}, slices.Clone(state))
		return nil
	})
	if err != nil {
		s.source.notKept(ctx, kind, source)
	}
	return err
}
