package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
)

// takeAt takes a job.
func (s *suite) takeAt(at time.Time, except ...string) *embedder.Job {
	s.Helper()
	job, err := s.store.Take(s.Context(), at, lease, except)
	if err != nil {
		s.Fatal(err)
	}
	return job
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
