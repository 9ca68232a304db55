// Package embedder keeps the knowledge base: it takes each document's newest change, gets the content, and replaces what is
// searchable. And it searches.
package embedder

import (
	"context"
	"errors"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

var (
	// ErrNotFound says that nothing is known under a name.
	ErrNotFound = errors.New("not found")
	// ErrSuperseded says that a newer change took the place of the one that was worked on: its result must be dropped.
	ErrSuperseded = errors.New("a newer change took its place")
	// ErrConflict says that others have changed what a decision was made on: it must be made again.
	ErrConflict = errors.New("others have changed it meanwhile")
)

// Job is a document's newest change, waiting to be processed.
type Job struct {
	Source     string
	DocumentID string
	Change     *eventv1.Change
	// Headers carry the trace of the change.
	Headers []stage.Header
	// Attempts counts the tries that failed.
	Attempts int
	// Claim is the number under which it was taken; results under an older one are refused.
	Claim int64
}

// Piece is a searchable chunk with its vector.
type Piece struct {
	Ordinal     int
	HeadingPath []string
	Text        string
	Hash        [32]byte
	Vector      []float32
}

// Document is what becomes searchable at once.
type Document struct {
	Title, URL, Version string
	// TextHash is over the extracted text.
	TextHash [32]byte
	// Model is the fingerprint of the model that made the vectors.
	Model  string
	Pieces []Piece
}

// Counts say what a replacement did.
type Counts struct{ Reused, New, Removed int }

// Tx is the embedder's view of the stage's transaction.
type Tx interface {
	// Enqueue makes a change the document's job, if its revision is higher than what the document has. It returns the event
	// whose place it took, or ""; stale is true if the change itself is old. The very change that the document already has or
	// waits for is stale, and superseded is then its own event.
	Enqueue(ctx context.Context, change *eventv1.Change, headers []stage.Header, now time.Time) (superseded string, stale bool, err error)
	// SetRecord keeps what became of an event.
	SetRecord(ctx context.Context, r *embedderv1.EventRecord, now time.Time) error
	// Expire deletes at most limit records older than before.
	Expire(ctx context.Context, before time.Time, limit int) error
}

// Store keeps the knowledge base and the jobs. Safe for concurrent use.
type Store interface {
	stage.Store[Tx]
	// Take claims a job that is due, until the lease ends; nil if none is. Sources in except are left out.
	Take(ctx context.Context, now time.Time, lease time.Duration, except []string) (*Job, error)
	// Renew prolongs the lease of a job that was taken. ErrSuperseded: it is no longer the caller's.
	Renew(ctx context.Context, job *Job, until time.Time) error
	// NextDue returns when the next job is due; zero: there is none.
	NextDue(ctx context.Context, except []string) (time.Time, error)
	// Vectors returns the document's present vectors by chunk hash, if they were made by the model.
	Vectors(ctx context.Context, source, documentID, model string) (map[[32]byte][]float32, error)
	// Replace makes a document searchable in place of what was there, keeps the record, and ends the job: all or nothing.
	// ErrSuperseded: the job is no longer the document's newest.
	Replace(ctx context.Context, job *Job, doc Document, record *embedderv1.EventRecord, now time.Time) error
	// Remove removes a document, or with subtree everything below it, likewise.
	Remove(ctx context.Context, job *Job, subtree bool, record *embedderv1.EventRecord, now time.Time) error
	// Retry puts a job back until a time, with the error that it met. counts: it was a try.
	Retry(ctx context.Context, job *Job, at time.Time, counts bool, cause string, now time.Time) error
	// Bury ends a job that is given up.
	Bury(ctx context.Context, job *Job, record *embedderv1.EventRecord, cause string, now time.Time) error
	// Event returns the record of an event, or ErrNotFound.
	Event(ctx context.Context, id string) (*embedderv1.EventRecord, error)
	// GetDocument returns what is known of a document, or ErrNotFound.
	GetDocument(ctx context.Context, source, documentID string, chunks bool) (*embedderv1.Document, []*embedderv1.Chunk, error)
	// ListDocuments returns documents after (source, id), by source and id.
	ListDocuments(ctx context.Context, source, afterSource, afterID string, limit int) ([]*embedderv1.Document, error)
	// Search returns the chunks nearest to a vector and to words.
	Search(ctx context.Context, q Query) ([]*embedderv1.SearchResult, error)
	// Backlog says whether at least limit jobs wait, not counting those of the sources in except. It costs the same however many do
	// of the others.
	Backlog(ctx context.Context, limit int64, except []string) (bool, error)
	// Breakers returns the states that SetBreaker kept, by endpoint, and how many changes have led to them. If it is as many as seen,
	// nothing is read but that, and states is nil. No store has seen a negative number of changes.
	Breakers(ctx context.Context, seen int64) (states map[string][]byte, changes int64, err error)
	// SetBreaker keeps the state of an endpoint's breaker in place of what was there (nil: nothing is kept), and returns how many changes
	// there were then. ErrConflict: there were others after those that were seen. An embedder that decides by what another one has
	// changed meanwhile would undo it.
	SetBreaker(ctx context.Context, endpoint string, state []byte, seen int64) (changes int64, err error)
	// Status counts.
	Status(ctx context.Context) (pending, retrying, documents, chunks int64, err error)
}

// Query is a question.
type Query struct {
	Text   string
	Vector []float32
	Source string
	Limit  int
}
