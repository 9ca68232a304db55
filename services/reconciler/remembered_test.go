package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
)

// What the reconciler remembers as done has to be in the log: a crash between the two must repeat work, not leave it out.

func TestACursorIsKeptNoFartherThanWhatIsInTheLog(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.provider.set(nil, ids(0, 22)...)
	pages := 0
	r.kept.before = func(produced int) {
		cursor, _, err := r.store.Cursor(t.Context(), "s")
		at := 0
		_, _ = fmt.Sscan(cursor, &at)
		if pages++; err != nil || at > produced {
			t.Errorf("polls would go on at %d when %d changes are in the log (%v)", at, produced, err)
		}
	}
	if _, err := r.service.PollSource(t.Context(), &reconcilerv1.PollSourceRequest{Source: "s"}); err != nil || pages != 6 {
		t.Errorf("%d pages, %v", pages, err)
	}
}

// owe notes debts of the source.
func (r *rig) owe(t *testing.T, debts ...*eventv1.Debt) {
	t.Helper()
	var raws [][]byte
	for _, d := range debts {
		d.Source = "s"
		raws = append(raws, encode(t, d))
	}
	feed(t, r.store, r.service.Debts(), raws...)
}

// owed is how many debts are open.
func (r *rig) owed(t *testing.T) int64 {
	t.Helper()
	count, err := r.store.CountDebts(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	return count.Open
}

func TestADebtIsPaidOnlyWhenTheQuestionForItsDocumentIsInTheLog(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.owe(t, &eventv1.Debt{DocumentId: "d01", Reason: "GAP"}, &eventv1.Debt{DocumentId: "d02", Reason: "STALE"})
	r.kept.fail = true
	r.kept.before = func(int) {
		if n := r.owed(t); n != 2 {
			t.Errorf("%d debts are open before anything is in the log, want 2", n)
		}
	}
	if err := r.service.PayAll(t.Context()); err == nil || r.owed(t) != 2 {
		t.Errorf("the log takes nothing: %d debts are open, %v", r.owed(t), err)
	}
	r.kept.fail = false
	if err := r.service.PayAll(t.Context()); err != nil || r.owed(t) != 0 || len(r.kept.all()) != 2 {
		t.Errorf("%d debts are open, %d documents were asked for, %v", r.owed(t), len(r.kept.all()), err)
	}
}

func TestAPollThatFailsPaysNoDebt(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.owe(t, &eventv1.Debt{Reason: "SHED"})
	r.provider.set(errors.New("HTTP 500"), ids(0, 6)...) // the first page can be read, the second not
	if err := r.service.PayAll(t.Context()); err != nil || r.owed(t) != 1 {
		t.Errorf("after a poll that was not read to its end %d debts are open, want 1 (%v)", r.owed(t), err)
	}
	r.provider.set(nil, ids(0, 6)...)
	r.later.Store(int64(time.Minute))
	if err := r.service.PayAll(t.Context()); err != nil || r.owed(t) != 0 {
		t.Errorf("after a poll to the end %d debts are open, want 0 (%v)", r.owed(t), err)
	}
}

// A debt of a log that was lost asks for everything, wherever the polls have come to; any other one for what is new.
func TestOnlyTheDebtOfALostLogReadsASourceFromItsBeginning(t *testing.T) {
	for reason, want := range map[string]int{"RESYNC": 22, "SHED": 2} {
		r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
		r.provider.set(nil, ids(0, 22)...)
		if err := r.store.SetCursor(t.Context(), "s", "20", time.Now()); err != nil {
			t.Fatal(err)
		}
		r.owe(t, &eventv1.Debt{Reason: reason})
		if err := r.service.PayAll(t.Context()); err != nil || r.owed(t) != 0 || len(r.kept.all()) != want {
			t.Errorf("%s: %d changes were told, want %d; %d debts are open (%v)", reason, len(r.kept.all()), want, r.owed(t), err)
		}
		_ = r.store.Close()
	}
}

// forgetful is a source that does not know an old cursor any more.
type forgetful struct{ connector.Lister }

func (f forgetful) List(ctx context.Context, cursor string) (connector.Page, error) {
	if cursor == "forgotten" {
		return connector.Page{}, connector.BadCursor()
	}
	return f.Lister.List(ctx, cursor)
}

func TestAListWhoseCursorIsForgottenIsReadFromItsBeginning(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"), func(c *connector.Connector) { c.Lister = forgetful{c.Lister} })
	defer func() { _ = r.store.Close() }()
	r.provider.set(nil, ids(0, 10)...)
	if err := r.store.SetCursor(t.Context(), "s", "forgotten", time.Now()); err != nil {
		t.Fatal(err)
	}
	res, err := r.service.PollSource(t.Context(), &reconcilerv1.PollSourceRequest{Source: "s"})
	var told []string
	for _, ev := range r.kept.all() {
		told = append(told, ev.GetDocumentId())
	}
	if err != nil || res.GetListed() != 10 || !slices.Equal(told, ids(0, 10)) {
		t.Errorf("told were %v, %v, %v", told, res, err)
	}
	if cursor, _, err := r.store.Cursor(t.Context(), "s"); err != nil || cursor != "10" {
		t.Errorf("the next poll begins at %q, %v", cursor, err)
	}
}
