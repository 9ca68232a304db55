package dedupe

import (
	"context"
	"errors"
	"time"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// ErrNotFound says that nothing is remembered under a name.
var ErrNotFound = errors.New("not found")

// Tx is dedupe's view of a transaction: reads see its own writes.
type Tx interface {
	// Prefetch reads what a batch will ask about in one go. What was not prefetched can be asked for as well, one by one.
	Prefetch(ctx context.Context, w Wanted) error
	// Decided says whether an event of this id was decided on before.
	Decided(ctx context.Context, eventID string) (bool, error)
	// First returns the delivery under a key that has not expired; nil if there is none.
	First(ctx context.Context, key Key, now time.Time) (*First, error)
	// Remember keeps a first delivery. An expired one under the same key is replaced.
	Remember(ctx context.Context, key Key, first First) error
	// Newest returns the newest event of a document that has not expired; nil if there is none.
	Newest(ctx context.Context, document []byte, now time.Time) (*Newest, error)
	// SetNewest replaces it.
	SetNewest(ctx context.Context, document []byte, newest Newest) error
	// Record keeps what was decided on an event.
	Record(ctx context.Context, record *dedupev1.EventRecord) error
	// Expire deletes at most limit rows of each kind that expired before now, and records older than the retention.
	Expire(ctx context.Context, now time.Time, retention time.Duration, limit int) error
}

// Store keeps what dedupe remembers. Methods outside of transactions see what is committed. Safe for concurrent use.
type Store interface {
	stage.Store[Tx]
	// Lookup returns the deliveries under keys, nil where there is none, in the order of the keys.
	Lookup(ctx context.Context, keys []Key, now time.Time) ([]*First, error)
	// Forget removes a key and says whether it was there.
	Forget(ctx context.Context, key Key) (bool, error)
	// Event returns the record of an event, or ErrNotFound.
	Event(ctx context.Context, id string) (*dedupev1.EventRecord, error)
	// Events returns records, newest first.
	Events(ctx context.Context, source, documentID string, limit int) ([]*dedupev1.EventRecord, error)
}
