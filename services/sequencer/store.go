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

// Totals are what a partition counts over all its documents.
type Totals struct {
	// Held is how many events wait.
	Held int64
	// Floor is the highest revision of a document that was forgotten: new ones begin above it, so that no revision returns.
	Floor int64
}

// Tx is the sequencer's view of a transaction: reads see its own writes. Keys of documents and containers are
// kafka.DocumentKey: the source, a slash, the id.
type Tx interface {
	// Prefetch reads the documents of a batch in one go. What was not prefetched can be asked for as well, one by one.
	Prefetch(ctx context.Context, keys []string) error
	// Document returns a document's state; the zero State if it was never seen, or is forgotten.
	Document(ctx context.Context, key string) (State, error)
	// SetDocument stores it; its State.Due puts it into the due-index of the partition. It does not touch memberships.
	SetDocument(ctx context.Context, key string, partition int, s State) error
	// Forget removes a document's state and its memberships.
	Forget(ctx context.Context, key string) error
	// SetContainers makes a document a member of these containers (keys) and of no others.
	SetContainers(ctx context.Context, key string, containers []string) error
	// Members returns at most limit keys after the given one, in ascending order of bytes: of the documents that are
	// members of a container, and of those that are known and whose key begins with the container's and a slash.
	Members(ctx context.Context, container, after string, limit int) ([]string, error)
	// HasGraves says whether any container of a source has a grave.
	HasGraves(ctx context.Context, source string) (bool, error)
	// Grave returns the newest deletion of a container; the zero Grave if there was none.
	Grave(ctx context.Context, container string) (Grave, error)
	// SetGrave stores it.
	SetGrave(ctx context.Context, container string, g Grave) error
	// Due returns the keys of at most limit documents of a partition whose time has come, the earliest first.
	Due(ctx context.Context, partition int, now time.Time, limit int) ([]string, error)
	// NextDue returns when the next document of a partition is due; zero: none is.
	NextDue(ctx context.Context, partition int) (time.Time, error)
	// Hold keeps an event until Release.
	Hold(ctx context.Context, eventID string, h Held) error
	// Release returns a held event and removes it. ErrNotFound: it is not held.
	Release(ctx context.Context, eventID string) (Held, error)
	// Totals returns what a partition has counted.
	Totals(ctx context.Context, partition int) (Totals, error)
	// SetTotals stores it.
	SetTotals(ctx context.Context, partition int, t Totals) error
	// Numbers returns what a source has counted. Several partitions count the same source: until the end of the
	// transaction no other one reads the numbers of this source through Numbers.
	Numbers(ctx context.Context, source string) (Numbers, error)
	// SetNumbers stores it.
	SetNumbers(ctx context.Context, source string, n Numbers) error
	// SetRecord keeps what was decided on an event.
	SetRecord(ctx context.Context, r *sequencerv1.EventRecord, now time.Time) error
	// Expire deletes at most limit records that were kept at the given time or before, and at most limit graves of which we
	// learned at the other or before.
	Expire(ctx context.Context, records, graves time.Time, limit int) error
}

// Store keeps what the sequencer knows. Safe for concurrent use. Its own methods see what is committed.
type Store interface {
	stage.Store[Tx]
	// Document returns a document's state, or ErrNotFound.
	Document(ctx context.Context, key string) (State, error)
	// Event returns the record of an event, or ErrNotFound.
	Event(ctx context.Context, id string) (*sequencerv1.EventRecord, error)
	// Waiting returns at most limit documents for which events wait, those that are due first first; source "": of all.
	Waiting(ctx context.Context, source string, limit int) (states map[string]State, keys []string, err error)
	// Numbers returns the numbers of one source, or of all that count ("").
	Numbers(ctx context.Context, source string) (map[string]Numbers, error)
}
