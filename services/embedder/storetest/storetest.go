// Package storetest holds what every implementation of embedder.Store must do.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
)

// Fixture is a store under test.
type Fixture struct {
	Store embedder.Store
	// Reopen closes the store and opens it again over the same data; nil: its data does not outlive it.
	Reopen func(t *testing.T) Fixture
}

// Run runs the suite. open returns an empty store each time.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Run("stage", func(t *testing.T) {
		stagetest.RunStore(t, func(t *testing.T) stagetest.StoreFixture[embedder.Tx] { return stageFixture(open(t)) })
	})
	for _, tt := range []struct {
		name string
		run  func(*suite)
	}{
		{"only a newer change becomes the document's job", (*suite).enqueue},
		{"a job is taken by one worker, when it is due, and again when its lease ends", (*suite).take},
		{"several workers take every job once", (*suite).takeTogether},
		{"a result under an old claim is refused and leaves nothing", (*suite).superseded},
		{"a document is replaced whole, and its vectors are known", (*suite).replace},
		{"a document that is removed is not found, and its subtree goes with it", (*suite).remove},
		{"a failure puts the job back, or ends it and keeps what was searchable", (*suite).failures},
		{"documents are listed by source and id, in pages", (*suite).list},
		{"what is nearest by meaning and by words is found first, also in one source", (*suite).search},
		{"a filtered search finds enough, however little of the whole fits", (*suite).searchFiltered},
		{"vectors of another dimension are like nothing", (*suite).dimensions},
		{"any text is taken", (*suite).texts},
		{"records are replaced; old ones go", (*suite).records},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(newSuite(t, open(t).Store)) })
	}
	t.Run("the breakers that are open outlive a restart", func(t *testing.T) { breakers(t, open(t)) })
	t.Run("no change of a breaker is lost among others", func(t *testing.T) { breakersTogether(t, open(t)) })
}

func stageFixture(f Fixture) stagetest.StoreFixture[embedder.Tx] {
	s := stagetest.StoreFixture[embedder.Tx]{
		Store: f.Store,
		Put: func(ctx context.Context, tx embedder.Tx, name string) error {
			_, _, err := tx.Enqueue(ctx, change(name, 1), nil, now)
			return err
		},
		Has: func(ctx context.Context, name string) (bool, error) {
			_, _, err := f.Store.GetDocument(ctx, "s", name, false)
			if errors.Is(err, embedder.ErrNotFound) {
				return false, nil
			}
			return err == nil, err
		},
	}
	if f.Reopen != nil {
		s.Reopen = func(t *testing.T) stagetest.StoreFixture[embedder.Tx] { return stageFixture(f.Reopen(t)) }
	}
	return s
}

// now is the suite's clock. Stores keep microseconds.
var now = time.Date(2026, 11, 23, 12, 0, 0, 123_000, time.UTC)

const (
	lease = 10 * time.Second
	model = "model-1"
)

type suite struct {
	*testing.T
	store embedder.Store
	pos   stage.Position
}

func newSuite(t *testing.T, store embedder.Store) *suite {
	t.Helper()
	pos, _, err := store.Claim(t.Context(), "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	return &suite{T: t, store: store, pos: pos}
}

// tx runs fn in a transaction.
func (s *suite) tx(fn func(ctx context.Context, tx embedder.Tx) error) {
	s.Helper()
	err := s.store.Update(s.Context(), func(ctx context.Context, tx embedder.Tx) (stage.Advance, error) {
		return stage.Advance{Position: s.pos}, fn(ctx, tx)
	})
	if err != nil {
		s.Fatal(err)
	}
}

func change(document string, revision int64) *eventv1.Change {
	return changeIn("s", document, revision)
}

func changeIn(source, document string, revision int64) *eventv1.Change {
	return &eventv1.Change{Revision: revision, Event: &eventv1.Event{Id: fmt.Sprintf("%s-%s-%d", source, document, revision), Source: source, DocumentId: document, Version: fmt.Sprint(revision)}}
}

func (s *suite) put(c *eventv1.Change) (superseded string, stale bool) {
	s.Helper()
	s.tx(func(ctx context.Context, tx embedder.Tx) (err error) {
		superseded, stale, err = tx.Enqueue(ctx, c, []stage.Header{{Key: "traceparent", Value: []byte("00-x")}}, now)
		return err
	})
	return superseded, stale
}

func record(c *eventv1.Change, outcome embedderv1.Outcome) *embedderv1.EventRecord {
	return &embedderv1.EventRecord{Id: c.GetEvent().GetId(), Outcome: outcome, DecidedAt: timestamppb.New(now)}
}

// vector points into a direction that a number gives.
func vector(angle float64) []float32 {
	return []float32{float32(math.Cos(angle)), float32(math.Sin(angle)), 0, 0}
}

// piece makes a chunk of a text.
func piece(ordinal int, text string, angle float64) embedder.Piece {
	return embedder.Piece{Ordinal: ordinal, HeadingPath: []string{"Top", "Part"}, Text: text, Hash: sha256.Sum256([]byte(text)), Vector: vector(angle)}
}

func document(title string, pieces ...embedder.Piece) embedder.Document {
	return embedder.Document{Title: title, URL: "https://x/" + title, Version: "v", TextHash: sha256.Sum256([]byte(title)), Model: model, Pieces: pieces}
}

// embed puts a document in by the whole way.
func (s *suite) embed(source, id string, revision int64, d embedder.Document) {
	s.Helper()
	c := changeIn(source, id, revision)
	s.put(c)
	job := s.takeAt(now)
	if job == nil || job.Source != source || job.DocumentID != id {
		s.Fatalf("took %+v", job)
	}
	if err := s.store.Replace(s.Context(), job, d, record(c, embedderv1.Outcome_OUTCOME_EMBEDDED), now); err != nil {
		s.Fatal(err)
	}
}
