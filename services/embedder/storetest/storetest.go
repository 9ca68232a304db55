// Package storetest holds what every implementation of embedder.Store must do.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
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

// takeAt takes a job.
func (s *suite) takeAt(at time.Time, except ...string) *embedder.Job {
	s.Helper()
	job, err := s.store.Take(s.Context(), at, lease, except)
	if err != nil {
		s.Fatal(err)
	}
	return job
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

// store puts a document in by the whole way.
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

func (s *suite) enqueue() {
	for _, tt := range []struct {
		revision   int64
		superseded string
		stale      bool
	}{{5, "", false}, {4, "", true}, {5, "s-d-5", true}, {7, "s-d-5", false}, {6, "", true}} {
		if superseded, stale := s.put(change("d", tt.revision)); superseded != tt.superseded || stale != tt.stale {
			s.Errorf("revision %d: superseded %q, stale %v", tt.revision, superseded, stale)
		}
	}
	job := s.takeAt(now)
	if job == nil || job.Change.GetRevision() != 7 || len(job.Headers) != 1 || string(job.Headers[0].Value) != "00-x" {
		s.Fatalf("took %+v", job)
	}
	if err := s.store.Replace(s.Context(), job, document("t"), record(job.Change, embedderv1.Outcome_OUTCOME_EMBEDDED), now); err != nil {
		s.Fatal(err)
	}
	if superseded, stale := s.put(change("d", 7)); superseded != "s-d-7" || !stale {
		s.Errorf("the change that the document has: superseded %q, stale %v", superseded, stale)
	}
	if superseded, stale := s.put(change("d", 8)); superseded != "" || stale {
		s.Errorf("a newer change: superseded %q, stale %v", superseded, stale)
	}
	if d, _, err := s.store.GetDocument(s.Context(), "s", "d", false); err != nil || d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_PENDING {
		s.Errorf("%v, %v", d, err)
	}
}

func (s *suite) take() {
	s.put(changeIn("t", "a", 1))
	s.put(changeIn("s", "b", 1))
	if job := s.takeAt(now.Add(-time.Second)); job != nil {
		s.Errorf("took %s before it is due", job.DocumentID)
	}
	if due, err := s.store.NextDue(s.Context(), nil); err != nil || !due.Equal(now) {
		s.Errorf("due %v, %v", due, err)
	}
	if due, err := s.store.NextDue(s.Context(), []string{"s", "t"}); err != nil || !due.IsZero() {
		s.Errorf("due without both sources: %v, %v", due, err)
	}
	for limit, want := range map[int64]bool{1: true, 2: true, 3: false} {
		if got, err := s.store.Backlog(s.Context(), limit, nil); err != nil || got != want {
			s.Errorf("at least %d wait: %v, %v", limit, got, err)
		}
	}
	if got, err := s.store.Backlog(s.Context(), 1, []string{"s", "t"}); err != nil || got {
		s.Errorf("without both sources: %v, %v", got, err)
	}
	first := s.takeAt(now, "t", "u")
	if first == nil || first.Source != "s" || first.Attempts != 0 {
		s.Fatalf("took %+v", first)
	}
	if job := s.takeAt(now, "t"); job != nil {
		s.Errorf("took %s twice", job.DocumentID)
	}
	if err := s.store.Renew(s.Context(), first, now.Add(time.Minute)); err != nil {
		s.Error(err)
	}
	if job := s.takeAt(now.Add(59*time.Second), "t"); job != nil {
		s.Errorf("took %s although its lease was prolonged", job.DocumentID)
	}
	again := s.takeAt(now.Add(time.Minute), "t")
	if again == nil || again.Claim == first.Claim {
		s.Fatalf("took %+v after %+v", again, first)
	}
	if err := s.store.Renew(s.Context(), first, now.Add(time.Hour)); !errors.Is(err, embedder.ErrSuperseded) {
		s.Errorf("the first worker's renewal: %v, want ErrSuperseded", err)
	}
}

func (s *suite) takeTogether() {
	const jobs, workers = 40, 5
	for i := range jobs {
		s.put(change(fmt.Sprint(i), 1))
	}
	var mu sync.Mutex
	taken := map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				job, err := s.store.Take(s.Context(), now, lease, nil)
				if err != nil {
					s.Error(err)
				}
				if err != nil || job == nil {
					return
				}
				mu.Lock()
				taken[job.DocumentID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range taken {
		if n != 1 {
			s.Errorf("job %s was taken %d times", id, n)
		}
	}
	if len(taken) != jobs {
		s.Errorf("%d of %d jobs were taken", len(taken), jobs)
	}
}

func (s *suite) superseded() {
	s.put(change("d", 1))
	old := s.takeAt(now)
	s.put(change("d", 2))
	rec := record(old.Change, embedderv1.Outcome_OUTCOME_EMBEDDED)
	for what, err := range map[string]error{
		"replace": s.store.Replace(s.Context(), old, document("old", piece(0, "old text", 0)), rec, now), "remove": s.store.Remove(s.Context(), old, false, rec, now),
		"retry": s.store.Retry(s.Context(), old, now, true, "x", now), "bury": s.store.Bury(s.Context(), old, rec, "x", now), "renew": s.store.Renew(s.Context(), old, now),
	} {
		if !errors.Is(err, embedder.ErrSuperseded) {
			s.Errorf("%s: %v, want ErrSuperseded", what, err)
		}
	}
	if _, err := s.store.Event(s.Context(), rec.GetId()); !errors.Is(err, embedder.ErrNotFound) {
		s.Errorf("the old record is there: %v", err)
	}
	d, chunks, err := s.store.GetDocument(s.Context(), "s", "d", true)
	if err != nil || d.GetTitle() != "" || len(chunks) != 0 || d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_PENDING {
		s.Errorf("%v, %v, %v", d, chunks, err)
	}
	job := s.takeAt(now)
	if job == nil || job.Change.GetRevision() != 2 || job.Attempts != 0 {
		s.Errorf("took %+v", job)
	}
}

func (s *suite) wantChunks(source, id string, want ...string) *embedderv1.Document {
	s.Helper()
	d, chunks, err := s.store.GetDocument(s.Context(), source, id, true)
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for i, c := range chunks {
		got = append(got, c.GetText())
		if int(c.GetOrdinal()) != i || !slices.Equal(c.GetHeadingPath(), []string{"Top", "Part"}) {
			s.Errorf("chunk %d: %v", i, c)
		}
	}
	if !slices.Equal(got, want) || int(d.GetChunks()) != len(want) {
		s.Errorf("%s/%s has %q (%d), want %q", source, id, got, d.GetChunks(), want)
	}
	return d
}

func (s *suite) replace() {
	s.embed("s", "d", 1, document("First", piece(0, "one", 0), piece(1, "twice", 1), piece(2, "twice", 1), piece(3, "gone", 2)))
	d := s.wantChunks("s", "d", "one", "twice", "twice", "gone")
	sum := sha256.Sum256([]byte("First"))
	if d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_CURRENT || d.GetTitle() != "First" || d.GetUrl() != "https://x/First" || d.GetRevision() != 1 || d.GetEventId() != "s-d-1" ||
		d.GetContentHash() != fmt.Sprintf("%x", sum) || !d.GetUpdatedAt().AsTime().Equal(now) {
		s.Errorf("%v", d)
	}
	if r, err := s.store.Event(s.Context(), "s-d-1"); err != nil || r.GetOutcome() != embedderv1.Outcome_OUTCOME_EMBEDDED {
		s.Errorf("%v, %v", r, err)
	}
	known, err := s.store.Vectors(s.Context(), "s", "d", model)
	if err != nil || len(known) != 3 || !slices.Equal(known[sha256.Sum256([]byte("one"))], vector(0)) {
		s.Errorf("%v, %v", known, err)
	}
	if other, err := s.store.Vectors(s.Context(), "s", "d", "model-2"); err != nil || len(other) != 0 {
		s.Errorf("vectors of another model: %v, %v", other, err)
	}
	s.embed("s", "d", 2, document("Second", piece(0, "new", 3), piece(1, "twice", 1), piece(2, "one", 0)))
	s.wantChunks("s", "d", "new", "twice", "one")
	renewed := document("Second", piece(0, "new", 4), piece(1, "one", 5))
	renewed.Model = "model-2"
	s.embed("s", "d", 3, renewed)
	if known, err = s.store.Vectors(s.Context(), "s", "d", "model-2"); err != nil || len(known) != 2 || !slices.Equal(known[sha256.Sum256([]byte("one"))], vector(5)) {
		s.Errorf("a new model's vectors: %v, %v", known, err)
	}
	s.embed("s", "d", 4, document("Empty"))
	s.wantChunks("s", "d")
	if pending, retrying, documents, chunks, err := s.store.Status(s.Context()); err != nil || pending+retrying+chunks != 0 || documents != 1 {
		s.Errorf("%d pending, %d retrying, %d documents, %d chunks, %v", pending, retrying, documents, chunks, err)
	}
	if job := s.takeAt(now.Add(time.Hour)); job != nil {
		s.Errorf("a job that is done was taken again: %+v", job)
	}
}

func (s *suite) remove() {
	for i, id := range []string{"a", "a/1", "a/1/x", "ab"} {
		s.embed("s", id, int64(i+1), document(id, piece(0, "text of "+id, float64(i))))
	}
	c := change("a", 9)
	s.put(c)
	if err := s.store.Remove(s.Context(), s.takeAt(now), false, record(c, embedderv1.Outcome_OUTCOME_REMOVED), now); err != nil {
		s.Fatal(err)
	}
	d := s.wantChunks("s", "a")
	if d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_DELETED || d.GetRevision() != 9 || d.GetVersion() != "9" {
		s.Errorf("%v", d)
	}
	s.wantChunks("s", "a/1", "text of a/1")
	if _, stale := s.put(change("a", 8)); !stale {
		s.Error("an old change would raise the dead")
	}
	c = change("a", 10)
	s.put(c)
	if err := s.store.Remove(s.Context(), s.takeAt(now), true, record(c, embedderv1.Outcome_OUTCOME_REMOVED), now); err != nil {
		s.Fatal(err)
	}
	if d := s.wantChunks("s", "a/1"); d.GetRevision() != 2 || d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_DELETED {
		s.Errorf("%v", d)
	}
	s.wantChunks("s", "a/1/x")
	s.wantChunks("s", "ab", "text of ab")
	if hits := s.find("text", vector(1), ""); len(hits) != 1 || hits[0] != "s/ab#0" {
		s.Errorf("found %v", hits)
	}
}

func (s *suite) failures() {
	s.embed("s", "d", 1, document("kept", piece(0, "kept", 0)))
	c := change("d", 2)
	s.put(c)
	job := s.takeAt(now)
	if err := s.store.Retry(s.Context(), job, now.Add(time.Minute), true, "the source is away\x00", now); err != nil {
		s.Fatal(err)
	}
	if job := s.takeAt(now.Add(59 * time.Second)); job != nil {
		s.Errorf("taken before its time: %+v", job)
	}
	if _, retrying, _, _, err := s.store.Status(s.Context()); err != nil || retrying != 1 {
		s.Errorf("%d retrying, %v", retrying, err)
	}
	job = s.takeAt(now.Add(time.Minute))
	if job == nil || job.Attempts != 1 {
		s.Fatalf("took %+v", job)
	}
	if err := s.store.Retry(s.Context(), job, now.Add(2*time.Minute), false, "a break", now); err != nil {
		s.Fatal(err)
	}
	if job = s.takeAt(now.Add(2 * time.Minute)); job == nil || job.Attempts != 1 {
		s.Fatalf("took %+v: what was no try counts", job)
	}
	if err := s.store.Bury(s.Context(), job, record(c, embedderv1.Outcome_OUTCOME_DEAD), "given up", now); err != nil {
		s.Fatal(err)
	}
	if d := s.wantChunks("s", "d", "kept"); d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_DEAD || d.GetError() != "given up" {
		s.Errorf("%v", d)
	}
	if job := s.takeAt(now.Add(time.Hour)); job != nil {
		s.Errorf("taken after it was given up: %+v", job)
	}
}

func (s *suite) list() {
	for i, id := range []string{"s/b", "s/a", "t/a", "s/B", "s/ä"} {
		s.put(changeIn(id[:1], id[2:], int64(i+1)))
	}
	check := func(source, afterSource, afterID string, limit int, want ...string) {
		s.Helper()
		docs, err := s.store.ListDocuments(s.Context(), source, afterSource, afterID, limit)
		var got []string
		for _, d := range docs {
			got = append(got, d.GetSource()+"/"+d.GetDocumentId())
		}
		if err != nil || !slices.Equal(got, want) {
			s.Errorf("after %s/%s: %v, %v; want %v", afterSource, afterID, got, err, want)
		}
	}
	check("", "", "", 10, "s/B", "s/a", "s/b", "s/ä", "t/a")
	check("", "s", "a", 2, "s/b", "s/ä")
	check("t", "s", "a", 10, "t/a")
	check("u", "", "", 10)
}

// find searches and returns "source/document#ordinal", best first.
func (s *suite) find(text string, v []float32, source string) []string {
	s.Helper()
	results, err := s.store.Search(s.Context(), embedder.Query{Text: text, Vector: v, Source: source, Limit: 5})
	if err != nil {
		s.Fatal(err)
	}
	var out []string
	last := math.Inf(1)
	for _, r := range results {
		out = append(out, fmt.Sprintf("%s/%s#%d", r.GetSource(), r.GetDocumentId(), r.GetOrdinal()))
		if r.GetScore() > last || r.GetScore() <= 0 || r.GetScore() > 1 {
			s.Errorf("score %v after %v", r.GetScore(), last)
		}
		last = r.GetScore()
	}
	return out
}

func (s *suite) search() {
	s.embed("s", "near", 1, document("About cats", piece(0, "they sleep all day", 0.1), piece(1, "and hunt at night", 0.4)))
	s.embed("s", "far", 1, document("Other", piece(0, "error code XK42 means that the disk is full", 1.4)))
	s.embed("t", "near", 1, document("Elsewhere", piece(0, "the same direction", 0.0)))
	if got := s.find("zzz", vector(0), ""); len(got) < 3 || got[0] != "t/near#0" || got[1] != "s/near#0" || got[2] != "s/near#1" {
		s.Errorf("by meaning: %v", got)
	}
	if got := s.find("what is XK42?", vector(1.3), ""); len(got) == 0 || got[0] != "s/far#0" {
		s.Errorf("by words: %v", got)
	}
	if got := s.find("cats", vector(0), "s"); len(got) == 0 || got[0] != "s/near#0" || slices.Contains(got, "t/near#0") {
		s.Errorf("in one source: %v", got)
	}
	if got := s.find("x' OR \"1\" & | ! ( * :", vector(0), "none"); len(got) != 0 {
		s.Errorf("in a source without documents: %v", got)
	}
	results, err := s.store.Search(s.Context(), embedder.Query{Text: "hunting", Vector: vector(0.4), Source: "s", Limit: 1})
	if err != nil || len(results) != 1 {
		s.Fatalf("%v, %v", results, err)
	}
	if r := results[0]; r.GetTitle() != "About cats" || r.GetUrl() != "https://x/About cats" || r.GetText() != "and hunt at night" || r.GetVersion() != "v" || !slices.Equal(r.GetHeadingPath(), []string{"Top", "Part"}) {
		s.Errorf("%v", r)
	}
}

func (s *suite) searchFiltered() {
	for i := range 120 {
		s.embed("big", fmt.Sprint(i), 1, document("t", piece(0, fmt.Sprint("text ", i), float64(i)/1000), piece(1, fmt.Sprint("more ", i), float64(i)/900), piece(2, fmt.Sprint("again ", i), float64(i)/800)))
	}
	for i := range 4 {
		s.embed("small", fmt.Sprint(i), 1, document("t", piece(0, fmt.Sprint("rare ", i), 1.2+float64(i)/100)))
	}
	if got := s.find("zzz", vector(0), "small"); !slices.Equal(got, []string{"small/0#0", "small/1#0", "small/2#0", "small/3#0"}) {
		s.Errorf("found %v", got)
	}
}

func (s *suite) dimensions() {
	s.embed("s", "four", 1, document("t", piece(0, "four", 0)))
	two := piece(0, "two", 0)
	two.Vector = []float32{1, 0}
	other := document("t", two)
	other.Model = "model-2"
	s.embed("s", "two", 1, other)
	if got := s.find("zzz", vector(0), ""); !slices.Equal(got, []string{"s/four#0"}) {
		s.Errorf("found %v", got)
	}
	if got := s.find("zzz", []float32{1, 0}, ""); !slices.Equal(got, []string{"s/two#0"}) {
		s.Errorf("found %v", got)
	}
}

func (s *suite) texts() {
	id := "zero\x00 ünï 'quoted' \\"
	d := document("title\x00 {}", piece(0, "a zero\x00 byte, a 'quote', {\"json\": 1}, \\n, 𝕏", 0), piece(1, "", 1))
	c := change(id, 1)
	c.Event.Id = "an id of ours"
	s.put(c)
	job := s.takeAt(now)
	if job == nil || job.DocumentID != id {
		s.Fatalf("took %+v", job)
	}
	if err := s.store.Replace(s.Context(), job, d, record(c, embedderv1.Outcome_OUTCOME_EMBEDDED), now); err != nil {
		s.Fatal(err)
	}
	got, chunks, err := s.store.GetDocument(s.Context(), "s", id, true)
	if err != nil || got.GetDocumentId() != id || len(chunks) != 2 {
		s.Errorf("%v, %v, %v", got, chunks, err)
	}
	if hits := s.find("quote", vector(0), ""); len(hits) == 0 || hits[0] != "s/"+id+"#0" {
		s.Errorf("found %q", hits)
	}
}

func (s *suite) records() {
	s.tx(func(ctx context.Context, tx embedder.Tx) error {
		var errs []error
		for i := range 6 {
			errs = append(errs, tx.SetRecord(ctx, &embedderv1.EventRecord{Id: fmt.Sprint("e", i), Reason: "first"}, now.Add(time.Duration(i)*time.Minute)))
		}
		return errors.Join(append(errs, tx.SetRecord(ctx, &embedderv1.EventRecord{Id: "e5", Reason: "second"}, now.Add(5*time.Minute)))...)
	})
	if r, err := s.store.Event(s.Context(), "e5"); err != nil || !proto.Equal(r, &embedderv1.EventRecord{Id: "e5", Reason: "second"}) {
		s.Errorf("%v, %v", r, err)
	}
	for range 3 {
		s.tx(func(ctx context.Context, tx embedder.Tx) error { return tx.Expire(ctx, now.Add(3*time.Minute), 2) })
	}
	for i := range 6 {
		_, err := s.store.Event(s.Context(), fmt.Sprint("e", i))
		if gone := errors.Is(err, embedder.ErrNotFound); gone != (i <= 3) || (err != nil && !gone) {
			s.Errorf("record %d: %v", i, err)
		}
	}
}
