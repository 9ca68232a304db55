// Package reconciler makes up for what webhooks missed: it polls the sources, pays debts, and keeps the dead letters.
package reconciler

import (
	"context"
	"errors"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// ErrNotFound says that nothing is known under a name.
var ErrNotFound = errors.New("not found")

// Debt is an open debt.
type Debt struct {
	*eventv1.Debt
	// Version grows when the debt is incurred again while it is open, and is another one for each debt of a document.
	Version int64
}

// DebtCount is how many debts of a source are open, and how many were paid or written off since the store began.
type DebtCount struct{ Open, Paid, WrittenOff int64 }

// DeadLetter is a dead letter as it is kept.
type DeadLetter struct {
	// Number orders dead letters: one that comes back has a new number.
	Number int64
	Letter *eventv1.DeadLetter
	Status *reconcilerv1.DeadLetterStatus
}

// DeadFilter selects dead letters; zero fields select all.
type DeadFilter struct {
	IDs                           []string
	Source, Document, Stage, Code string
	State                         reconcilerv1.DeadLetterState
	// From and To bound when they were given up: [From, To).
	From, To time.Time
}

// Lease says who does a piece of work.
type Lease struct {
	Name, Owner string
	Until       time.Time
}

// Tx is the reconciler's view of a stage's transaction.
type Tx interface {
	// AddDebt notes a debt; one that is open for the same document already gets a higher Version.
	AddDebt(ctx context.Context, d *eventv1.Debt) error
	// AddDeadLetter keeps a dead letter, open. A later one of the same id takes its place under a new number and keeps the count of
	// its replays; one that was given up no later than the kept one is a repeat and changes nothing.
	AddDeadLetter(ctx context.Context, d *eventv1.DeadLetter) error
	// Expire deletes at most limit dead letters older than before.
	Expire(ctx context.Context, before time.Time, limit int) error
}

// Store keeps cursors, debts, dead letters, leases, and what else is known of sources. Safe for concurrent use.
type Store interface {
	stage.Store[Tx]
	// Cursor returns how far a source was polled, and when last to the end; empty and zero: never.
	Cursor(ctx context.Context, source string) (cursor string, polledAt time.Time, err error)
	// SetCursor stores it; a zero polledAt leaves the time as it is.
	SetCursor(ctx context.Context, source, cursor string, polledAt time.Time) error
	// Debts returns at most limit open debts of a source, the oldest first.
	Debts(ctx context.Context, source string, limit int) ([]Debt, error)
	// DebtSources returns the names of sources with open debts.
	DebtSources(ctx context.Context) ([]string, error)
	// Pay removes debts, except those that were incurred again since they were read.
	Pay(ctx context.Context, debts []Debt) error
	// WriteOff removes the debts of a source's documents, or all of the source if documents is nil, whether or not they were incurred again
	// since somebody looked, and says how many there were.
	WriteOff(ctx context.Context, source string, documents []string) (int64, error)
	// CountDebts counts the debts of a source.
	CountDebts(ctx context.Context, source string) (DebtCount, error)
	// DeadLetters returns dead letters, newest first and older than the number before; 0: from the newest.
	DeadLetters(ctx context.Context, f DeadFilter, before int64, limit int) ([]DeadLetter, error)
	// OldestDeadLetters returns dead letters, oldest first and newer than the number after.
	OldestDeadLetters(ctx context.Context, f DeadFilter, after int64, limit int) ([]DeadLetter, error)
	// DeadLetter returns one, or ErrNotFound.
	DeadLetter(ctx context.Context, id string) (DeadLetter, error)
	// ResolveDeadLetter closes the letter of that number if it is open: REPLAYED (traceID is that of the replay, and the count of
	// replays grows) or DISCARDED. It says whether it was open.
	ResolveDeadLetter(ctx context.Context, number int64, state reconcilerv1.DeadLetterState, traceID string, now time.Time) (bool, error)
	// CountDeadLetters counts.
	CountDeadLetters(ctx context.Context, f DeadFilter) (int64, error)
	// AcquireLease makes owner the holder of a lease until a time, if nobody else holds it at now; it prolongs one's own.
	AcquireLease(ctx context.Context, name, owner string, now, until time.Time) (bool, error)
	// ReleaseLease gives a lease back; another's is left alone.
	ReleaseLease(ctx context.Context, name, owner string) error
	// Leases returns the leases that are held at now, by name.
	Leases(ctx context.Context, now time.Time) ([]Lease, error)
	// State returns what is kept of a kind (drift, rhythm, backfill, …) about a source; nil: nothing.
	State(ctx context.Context, kind, source string) ([]byte, error)
	// SetState keeps it in place of what was there.
	SetState(ctx context.Context, kind, source string, state []byte) error
}
