package simulation

import (
	"cmp"
	"context"
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
}

type reconcilerTx struct {
	cursors *table[string, polled]
	debts   *table[documentID, owed]
	paid    *table[string, int64]
	letters *table[string, reconciler.DeadLetter]
	leases  *table[string, reconciler.Lease]
	states  *table[stateKey, []byte]
	count   int64
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

func newReconcilerStore(h hooks) *reconcilerStore {
	t := &reconcilerTx{cursors: newTable[string, polled](), debts: newTable[documentID, owed](), paid: newTable[string, int64](),
		letters: newTable[string, reconciler.DeadLetter](), leases: newTable[string, reconciler.Lease](), states: newTable[stateKey, []byte]()}
	return &reconcilerStore{newMemory[reconciler.Tx](t, "reconciler", h, t.cursors, t.debts, t.paid, t.letters, t.leases, t.states), t}
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
	return nil
}

func (t *reconcilerTx) AddDeadLetter(_ context.Context, d *eventv1.DeadLetter) error {
	old, kept := t.letters.get(d.GetId())
	if kept && !d.GetFailedAt().AsTime().After(old.Letter.GetFailedAt().AsTime()) {
		return nil
	}
	t.letters.put(d.GetId(), reconciler.DeadLetter{Number: t.next(), Letter: proto.CloneOf(d), Status: &reconcilerv1.DeadLetterStatus{
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

func (s *reconcilerStore) Cursor(_ context.Context, source string) (cursor string, at time.Time, err error) {
	s.read(func() {
		p, _ := s.t.cursors.get(source)
		cursor, at = p.cursor, p.at
	})
	return cursor, at, nil
}

func (s *reconcilerStore) SetCursor(ctx context.Context, source, cursor string, at time.Time) error {
	return s.transaction(ctx, func() error {
		if old, _ := s.t.cursors.get(source); old.at.After(at) { // the time of the last whole poll does not go back
			at = old.at
		}
		s.t.cursors.put(source, polled{cursor, at})
		return nil
	})
}

func (s *reconcilerStore) Debts(_ context.Context, source string, limit int) (out []reconciler.Debt, err error) {
	s.read(func() {
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
	return out, nil
}

func (s *reconcilerStore) DebtSources(context.Context) (names []string, err error) {
	s.read(func() {
		for k := range s.t.debts.all() {
			names = append(names, k.source)
		}
	})
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s *reconcilerStore) Pay(ctx context.Context, debts []reconciler.Debt) error {
	return s.transaction(ctx, func() error {
		for _, d := range debts {
			k := documentID{d.GetSource(), d.GetDocumentId()}
			if open, ok := s.t.debts.get(k); ok && open.Version == d.Version {
				s.t.debts.del(k)
				n, _ := s.t.paid.get(k.source)
				s.t.paid.put(k.source, n+1)
			}
		}
		return nil
	})
}

func (s *reconcilerStore) CountDebts(_ context.Context, source string) (open, paid int64, err error) {
	s.read(func() {
		for k := range s.t.debts.all() {
			if k.source == source {
				open++
			}
		}
		paid, _ = s.t.paid.get(source)
	})
	return open, paid, nil
}

// matching returns the letters that a filter selects, oldest first.
func (s *reconcilerStore) matching(f reconciler.DeadFilter) (out []reconciler.DeadLetter) {
	s.read(func() {
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
	return out
}

func cloneLetter(d reconciler.DeadLetter) reconciler.DeadLetter {
	return reconciler.DeadLetter{Number: d.Number, Letter: proto.CloneOf(d.Letter), Status: proto.CloneOf(d.Status)}
}

func (s *reconcilerStore) DeadLetters(_ context.Context, f reconciler.DeadFilter, before int64, limit int) ([]reconciler.DeadLetter, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	all := slices.DeleteFunc(s.matching(f), func(d reconciler.DeadLetter) bool { return d.Number >= before })
	slices.Reverse(all)
	return all[:min(limit, len(all))], nil
}

func (s *reconcilerStore) OldestDeadLetters(_ context.Context, f reconciler.DeadFilter, after int64, limit int) ([]reconciler.DeadLetter, error) {
	all := slices.DeleteFunc(s.matching(f), func(d reconciler.DeadLetter) bool { return d.Number <= after })
	return all[:min(limit, len(all))], nil
}

func (s *reconcilerStore) DeadLetter(_ context.Context, id string) (d reconciler.DeadLetter, err error) {
	err = reconciler.ErrNotFound
	s.read(func() {
		if kept, ok := s.t.letters.get(id); ok {
			d, err = cloneLetter(kept), nil
		}
	})
	return d, err
}

func (s *reconcilerStore) ResolveDeadLetter(ctx context.Context, number int64, state reconcilerv1.DeadLetterState, traceID string, now time.Time) (was bool, err error) {
	err = s.transaction(ctx, func() error {
		for id, d := range s.t.letters.all() {
			if d.Number != number || d.Status.GetState() != reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_OPEN {
				continue
			}
			d = cloneLetter(d)
			d.Status.State, d.Status.ResolvedAt = state, timestamppb.New(now)
			if state == reconcilerv1.DeadLetterState_DEAD_LETTER_STATE_REPLAYED {
				d.Status.Replays++
			}
			d.Status.ReplayTraceId = cmp.Or(traceID, d.Status.GetReplayTraceId())
			s.t.letters.put(id, d)
			was = true
		}
		return nil
	})
	return was && err == nil, err
}

func (s *reconcilerStore) CountDeadLetters(_ context.Context, f reconciler.DeadFilter) (int64, error) {
	return int64(len(s.matching(f))), nil
}

func (s *reconcilerStore) AcquireLease(ctx context.Context, name, owner string, now, until time.Time) (got bool, err error) {
	err = s.transaction(ctx, func() error {
		held, ok := s.t.leases.get(name)
		if got = !ok || held.Owner == owner || !held.Until.After(now); got {
			s.t.leases.put(name, reconciler.Lease{Name: name, Owner: owner, Until: until})
		}
		return nil
	})
	return got && err == nil, err
}

func (s *reconcilerStore) ReleaseLease(ctx context.Context, name, owner string) error {
	return s.transaction(ctx, func() error {
		if held, ok := s.t.leases.get(name); ok && held.Owner == owner {
			s.t.leases.del(name)
		}
		return nil
	})
}

func (s *reconcilerStore) Leases(_ context.Context, now time.Time) (out []reconciler.Lease, err error) {
	s.read(func() {
		for _, l := range s.t.leases.all() {
			if l.Until.After(now) {
				out = append(out, l)
			}
		}
	})
	slices.SortFunc(out, func(a, b reconciler.Lease) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (s *reconcilerStore) State(_ context.Context, kind, source string) (state []byte, err error) {
	s.read(func() {
		kept, _ := s.t.states.get(stateKey{kind, source})
		state = slices.Clone(kept)
	})
	return state, nil
}

func (s *reconcilerStore) SetState(ctx context.Context, kind, source string, state []byte) error {
	return s.transaction(ctx, func() error {
		s.t.states.put(stateKey{kind, source}, slices.Clone(state))
		return nil
	})
}
