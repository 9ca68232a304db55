package storetest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
)

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
