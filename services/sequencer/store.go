package sequencer

import (
	"context"
	"errors"
	"time"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// ErrNotFound says that nothing is known under a name.
var ErrNotFound = errors.New("not found")

// Held is an event that waits, with what its release needs.
type Held struct {
	// Event is the encoded event.
	Event []byte
	// Headers carry its trace.
	Headers []stage.Header
	// At is since when it waits.
	At time.Time
}

// Tx is the sequencer's view of a transaction: reads see its own writes.
type Tx interface {
	// Document returns a document's state; the zero State if it was never seen.
	Document(ctx context.Context, key string) (State, error)
	// SetDocument stores it; its State.Due puts it into the due-index of the partition.
	SetDocument(ctx context.Context, key string, partition int, s State) error
	// Due returns the keys of at most limit documents of a partition whose time has come, the earliest first.
	Due(ctx context.Context, partition int, now time.Time, limit int) ([]string, error)
	// NextDue returns when the next document of a partition is due; zero: none is.
	NextDue(ctx context.Context, partition int) (time.Time, error)
	// Hold keeps an event until Release.
	Hold(ctx context.Context, eventID string, h Held) error
	// Release returns a held event and removes it.
	Release(ctx context.Context, eventID string) (Held, error)
	// Numbers returns what a source has counted.
	Numbers(ctx context.Context, source string) (Numbers, error)
	// SetNumbers stores it.
	SetNumbers(ctx context.Context, source string, n Numbers) error
	// Record returns the record of an event, or nil.
	Record(ctx context.Context, id string) (*sequencerv1.EventRecord, error)
	// SetRecord keeps what was decided on an event.
	SetRecord(ctx context.Context, r *sequencerv1.EventRecord, now time.Time) error
	// Expire deletes at most limit records older than the retention.
	Expire(ctx context.Context, before time.Time, limit int) error
}

// Store keeps what the sequencer knows. Safe for concurrent use.
type Store interface {
	stage.Store[Tx]
	// Document returns a document's state, or ErrNotFound.
	Document(ctx context.Context, key string) (State, error)
	// Event returns the record of an event, or ErrNotFound.
	Event(ctx context.Context, id string) (*sequencerv1.EventRecord, error)
	// Waiting returns the states of documents that wait, those that end first first.
	Waiting(ctx context.Context, source string, limit int) (map[string]State, []string, error)
}
