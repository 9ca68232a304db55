// Package reconciler makes up for what webhooks missed: it polls the sources, pays debts, and keeps the dead letters.
package reconciler

import (
	"context"
	"errors"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// ErrNotFound says that nothing is known under a name.
var ErrNotFound = errors.New("not found")

// Tx is the reconciler's view of a stage's transaction.
type Tx interface {
	// AddDebt notes a debt; one that is open for the same document already stays as it is.
	AddDebt(ctx context.Context, d *eventv1.Debt) error
	// AddDeadLetter keeps a dead letter; a later one of the same id takes its place.
	AddDeadLetter(ctx context.Context, d *eventv1.DeadLetter) error
	// Expire deletes at most limit dead letters older than before.
	Expire(ctx context.Context, before time.Time, limit int) error
}

// Store keeps cursors, debts and dead letters. Safe for concurrent use.
type Store interface {
	stage.Store[Tx]
	// Cursor returns how far a source was polled, and when last to the end; empty and zero: never.
	Cursor(ctx context.Context, source string) (cursor string, polledAt time.Time, err error)
	// SetCursor stores it; a zero polledAt leaves the time as it is.
	SetCursor(ctx context.Context, source, cursor string, polledAt time.Time) error
	// Debts returns at most limit open debts, the oldest first.
	Debts(ctx context.Context, limit int) ([]*eventv1.Debt, error)
	// Pay removes debts.
	Pay(ctx context.Context, debts []*eventv1.Debt) error
	// CountDebts counts open and paid debts of a source.
	CountDebts(ctx context.Context, source string) (open, paid int64, err error)
	// DeadLetters returns dead letters, newest first, older than the given one.
	DeadLetters(ctx context.Context, source string, before int64, limit int) (letters []*eventv1.DeadLetter, numbers []int64, err error)
	// DeadLetter returns one, or ErrNotFound.
	DeadLetter(ctx context.Context, id string) (*eventv1.DeadLetter, error)
}
