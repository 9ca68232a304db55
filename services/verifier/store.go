package verifier

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound: the store holds no such source.
	ErrNotFound = errors.New("there is no such source")
	// ErrConflict: the source was changed, made or removed since it was read.
	ErrConflict = errors.New("the source was changed meanwhile")
)

// Record is a source as it is stored.
type Record struct {
	Name string
	// Revision is that of the store when the record was last changed.
	Revision int64
	Disabled bool
	// Sealed holds definition and secrets; the store cannot read it.
	Sealed    []byte
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Use is when a secret last proved a delivery.
type Use struct {
	Source, Secret string
	At             time.Time
}

// SourceStore keeps the sources that were made at run time. It may be called by several goroutines and processes. Times are exact
// to a microsecond.
type SourceStore interface {
	// All returns every record, by name, and the store's revision at that moment. The revision grows with every Put and Delete.
	All(ctx context.Context) ([]Record, int64, error)
	// Revision returns the store's revision alone.
	Revision(ctx context.Context) (int64, error)
	// Put stores a record whose stored revision is expect; 0: there must be none of the name. It returns the record's new revision.
	// ErrConflict: the stored one is another.
	Put(ctx context.Context, r Record, expect int64) (int64, error)
	// Reseal replaces what is sealed in a record of that very revision, and nothing else: the revision stays. ErrConflict as for Put.
	Reseal(ctx context.Context, name string, revision int64, sealed []byte) error
	// Delete removes a source with what is known of its secrets' use. ErrNotFound: there is none.
	Delete(ctx context.Context, name string) error
	// Salt returns the bytes that were stored first, by whoever was first; initial, if that is this call.
	Salt(ctx context.Context, initial []byte) ([]byte, error)
	// NoteUses remembers uses; of one secret the latest counts.
	NoteUses(ctx context.Context, uses []Use) error
	// Uses returns them all, by source and secret.
	Uses(ctx context.Context) ([]Use, error)
}
