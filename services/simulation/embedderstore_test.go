package simulation

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// embedderStore is embedder.Store in memory.
type embedderStore struct {
	*memory[embedder.Tx]
	t *embedderTx
	// witness sees what the embedder does, inside the transactions; nil: nobody does.
	witness witness
}

// witness is told of jobs that are taken, and of what is about to become of documents, in the transactions that do it.
type witness interface {
	taken(ctx context.Context)
	replaced(ctx context.Context, job *embedder.Job, doc embedder.Document)
	removal(ctx context.Context, job *embedder.Job, subtree bool)
}

// documentID is a document of a source.
type documentID struct{ source, id string }

// embedderTx keeps messages and rows that are not changed in place.
type embedderTx struct {
	documents *table[documentID, holding]
	jobs      *table[documentID, waiting]
	events    *table[string, told]
	breakers  *table[string, []byte]
	changes   *table[struct{}, int64] // of breakers
}

// holding is what is searchable of a document.
type holding struct {
	document *embedderv1.Document
	model    string
	pieces   []embedder.Piece
}

// waiting is a job.
type waiting struct {
	change  *eventv1.Change
	headers []stage.Header
	due     int64
	tries   int
	claim   int64
}

type told struct {
	at time.Time
	*embedderv1.EventRecord
}

func newEmbedderStore(h hooks, more ...transactional) *embedderStore {
	t := &embedderTx{newTable[documentID, holding](), newTable[documentID, waiting](), newTable[string, told](), newTable[string, []byte](), newTable[struct{}, int64]()}
	return &embedderStore{memory: newMemory[embedder.Tx](t, "embedder", h, append(more, t.documents, t.jobs, t.events, t.breakers, t.changes)...), t: t}
}

func (t *embedderTx) Enqueue(_ context.Context, c *eventv1.Change, headers []stage.Header, now time.Time) (superseded string, stale bool, err error) {
	ev := c.GetEvent()
	at := documentID{ev.GetSource(), ev.GetDocumentId()}
	known, _ := t.documents.get(at)
	job, waits := t.jobs.get(at)
	if r := c.GetRevision(); r <= max(known.document.GetRevision(), job.change.GetRevision()) {
		if (r == job.change.GetRevision() && job.change.GetEvent().GetId() == ev.GetId()) || (r == known.document.GetRevision() && known.document.GetEventId() == ev.GetId()) {
			return ev.GetId(), true, nil
		}
		return "", true, nil
	}
	if waits {
		superseded = job.change.GetEvent().GetId()
		job.claim++ // so that the result of whoever works on it is refused
	}
	t.jobs.put(at, waiting{change: proto.CloneOf(c), headers: slices.Clone(headers), due: now.UnixMicro(), claim: job.claim})
	t.set(at, func(d *embedderv1.Document) { d.State, d.Error = embedderv1.DocumentState_DOCUMENT_STATE_PENDING, "" })
	return superseded, false, nil
}

// set changes what is known of a document.
func (t *embedderTx) set(at documentID, change func(*embedderv1.Document)) {
	h, ok := t.documents.get(at)
	if !ok {
		h.document = &embedderv1.Document{Source: at.source, DocumentId: at.id}
	}
	h.document = proto.CloneOf(h.document)
	change(h.document)
	t.documents.put(at, h)
}

func (t *embedderTx) SetRecord(_ context.Context, r *embedderv1.EventRecord, now time.Time) error {
	t.events.put(r.GetId(), told{now, proto.CloneOf(r)})
	return nil
}

func (t *embedderTx) Expire(_ context.Context, before time.Time, limit int) error {
	expire(t.events, limit, func(r told) bool { return !r.at.After(before) })
	return nil
}

// due lists the jobs of the sources that are not left out, the one that is due first first.
func (t *embedderTx) due(except []string) (keys []documentID) {
	all := t.jobs.all()
	for k := range all {
		if !slices.Contains(except, k.source) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b documentID) int {
		return cmp.Or(cmp.Compare(all[a].due, all[b].due), cmp.Compare(a.source, b.source), cmp.Compare(a.id, b.id))
	})
	return keys
}

func (s *embedderStore) Take(ctx context.Context, now time.Time, lease time.Duration, except []string) (job *embedder.Job, err error) {
	err = s.transaction(ctx, func() error {
		keys := s.t.due(except)
		if len(keys) == 0 {
			return nil
		}
		w, _ := s.t.jobs.get(keys[0])
		if w.due > now.UnixMicro() {
			return nil
		}
		w.due, w.claim = now.Add(lease).UnixMicro(), w.claim+1
		s.t.jobs.put(keys[0], w)
		if s.witness != nil {
			s.witness.taken(ctx)
		}
		job = &embedder.Job{Source: keys[0].source, DocumentID: keys[0].id, Change: proto.CloneOf(w.change), Headers: slices.Clone(w.headers), Attempts: w.tries, Claim: w.claim}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return job, nil
}

// owned returns a job that is still the caller's; the transaction is under way.
func (s *embedderStore) owned(job *embedder.Job) (documentID, waiting, error) {
	at := documentID{job.Source, job.DocumentID}
	w, ok := s.t.jobs.get(at)
	if !ok || w.claim != job.Claim || w.change.GetRevision() != job.Change.GetRevision() {
		return at, w, embedder.ErrSuperseded
	}
	return at, w, nil
}

func (s *embedderStore) Renew(ctx context.Context, job *embedder.Job, until time.Time) error {
	return s.transaction(ctx, func() error {
		at, w, err := s.owned(job)
		if err == nil {
			w.due = until.UnixMicro()
			s.t.jobs.put(at, w)
		}
		return err
	})
}

func (s *embedderStore) NextDue(_ context.Context, except []string) (due time.Time, err error) {
	s.read(func() {
		if keys := s.t.due(except); len(keys) > 0 {
			w, _ := s.t.jobs.get(keys[0])
			due = time.UnixMicro(w.due)
		}
	})
	return due, nil
}

func (s *embedderStore) Vectors(_ context.Context, source, document, model string) (map[[32]byte][]float32, error) {
	out := map[[32]byte][]float32{}
	s.read(func() {
		if h, ok := s.t.documents.get(documentID{source, document}); ok && h.model == model {
			for _, p := range h.pieces {
				out[p.Hash] = slices.Clone(p.Vector)
			}
		}
	})
	return out, nil
}

// finish ends a job that is still the caller's, with what it does to the document.
func (s *embedderStore) finish(ctx context.Context, job *embedder.Job, r *embedderv1.EventRecord, now time.Time, do func(at documentID)) error {
	return s.transaction(ctx, func() error {
		at, _, err := s.owned(job)
		if err != nil {
			return err
		}
		s.t.jobs.del(at)
		do(at)
		return s.t.SetRecord(ctx, r, now)
	})
}

func (s *embedderStore) Replace(ctx context.Context, job *embedder.Job, d embedder.Document, r *embedderv1.EventRecord, now time.Time) error {
	return s.finish(ctx, job, r, now, func(at documentID) {
		if s.witness != nil {
			s.witness.replaced(ctx, job, d)
		}
		s.t.documents.put(at, holding{model: d.Model, pieces: slices.Clone(d.Pieces), document: &embedderv1.Document{
			Source: at.source, DocumentId: at.id, Title: d.Title, Url: d.URL, Version: d.Version, Revision: job.Change.GetRevision(), Chunks: int32(len(d.Pieces)),
			State: embedderv1.DocumentState_DOCUMENT_STATE_CURRENT, EventId: job.Change.GetEvent().GetId(), ContentHash: fmt.Sprintf("%x", d.TextHash), UpdatedAt: timestamppb.New(now),
		}})
	})
}

func (s *embedderStore) Remove(ctx context.Context, job *embedder.Job, subtree bool, r *embedderv1.EventRecord, now time.Time) error {
	return s.finish(ctx, job, r, now, func(at documentID) {
		if s.witness != nil {
			s.witness.removal(ctx, job, subtree)
		}
		gone := []documentID{at}
		for k := range s.t.documents.all() {
			if subtree && k.source == at.source && strings.HasPrefix(k.id, at.id+"/") {
				gone = append(gone, k)
			}
		}
		for _, k := range gone {
			h, _ := s.t.documents.get(k)
			h.pieces = nil
			s.t.documents.put(k, h)
			s.t.set(k, func(d *embedderv1.Document) {
				d.State, d.EventId, d.ContentHash, d.Error, d.Chunks, d.UpdatedAt = embedderv1.DocumentState_DOCUMENT_STATE_DELETED, job.Change.GetEvent().GetId(), "", "", 0, timestamppb.New(now)
			})
		}
		s.t.set(at, func(d *embedderv1.Document) {
			d.Revision, d.Version = job.Change.GetRevision(), job.Change.GetEvent().GetVersion()
		})
	})
}

func (s *embedderStore) Retry(ctx context.Context, job *embedder.Job, until time.Time, counts bool, cause string, _ time.Time) error {
	return s.transaction(ctx, func() error {
		at, w, err := s.owned(job)
		if err != nil {
			return err
		}
		w.due = until.UnixMicro()
		if counts {
			w.tries++
		}
		s.t.jobs.put(at, w)
		s.t.set(at, func(d *embedderv1.Document) { d.Error = cause })
		return nil
	})
}

func (s *embedderStore) Bury(ctx context.Context, job *embedder.Job, r *embedderv1.EventRecord, cause string, now time.Time) error {
	return s.finish(ctx, job, r, now, func(at documentID) {
		s.t.set(at, func(d *embedderv1.Document) {
			d.State, d.Error, d.UpdatedAt = embedderv1.DocumentState_DOCUMENT_STATE_DEAD, cause, timestamppb.New(now)
		})
	})
}

func (s *embedderStore) Event(_ context.Context, id string) (r *embedderv1.EventRecord, err error) {
	err = embedder.ErrNotFound
	s.read(func() {
		if t, ok := s.t.events.get(id); ok {
			r, err = proto.CloneOf(t.EventRecord), nil
		}
	})
	return r, err
}

func (s *embedderStore) GetDocument(_ context.Context, source, document string, chunks bool) (d *embedderv1.Document, all []*embedderv1.Chunk, err error) {
	err = embedder.ErrNotFound
	s.read(func() {
		h, ok := s.t.documents.get(documentID{source, document})
		if !ok {
			return
		}
		d, err = proto.CloneOf(h.document), nil
		for _, p := range h.pieces {
			if chunks {
				all = append(all, &embedderv1.Chunk{Ordinal: int32(p.Ordinal), HeadingPath: p.HeadingPath, Text: p.Text})
			}
		}
	})
	return d, all, err
}

func (s *embedderStore) ListDocuments(_ context.Context, source, afterSource, afterID string, limit int) (out []*embedderv1.Document, err error) {
	s.read(func() {
		for k, h := range s.t.documents.all() {
			if (source == "" || source == k.source) && cmp.Or(cmp.Compare(k.source, afterSource), cmp.Compare(k.id, afterID)) > 0 {
				out = append(out, proto.CloneOf(h.document))
			}
		}
	})
	slices.SortFunc(out, func(a, b *embedderv1.Document) int {
		return cmp.Or(cmp.Compare(a.GetSource(), b.GetSource()), cmp.Compare(a.GetDocumentId(), b.GetDocumentId()))
	})
	return out[:min(limit, len(out))], nil
}

// Search weighs how near the vectors are with how many of the words are in title and text.
func (s *embedderStore) Search(_ context.Context, q embedder.Query) (out []*embedderv1.SearchResult, err error) {
	words := strings.FieldsFunc(strings.ToLower(q.Text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	s.read(func() {
		for k, h := range s.t.documents.all() {
			for _, p := range h.pieces {
				if q.Source != "" && q.Source != k.source || len(p.Vector) != len(q.Vector) {
					continue
				}
				score, found, text := 0.0, 0, strings.ToLower(h.document.GetTitle()+"\n"+p.Text)
				for i, x := range q.Vector {
					score += float64(x) * float64(p.Vector[i])
				}
				for _, w := range words {
					if strings.Contains(text, w) {
						found++
					}
				}
				if score = 0.7*max(0, score) + 0.3*float64(found)/float64(max(1, len(words))); score > 0 {
					out = append(out, &embedderv1.SearchResult{Source: k.source, DocumentId: k.id, Title: h.document.GetTitle(), Url: h.document.GetUrl(), Version: h.document.GetVersion(),
						Ordinal: int32(p.Ordinal), HeadingPath: p.HeadingPath, Text: p.Text, Score: math.Min(1, score)})
				}
			}
		}
	})
	slices.SortFunc(out, func(a, b *embedderv1.SearchResult) int {
		return cmp.Or(cmp.Compare(b.GetScore(), a.GetScore()), cmp.Compare(a.GetSource(), b.GetSource()), cmp.Compare(a.GetDocumentId(), b.GetDocumentId()), cmp.Compare(a.GetOrdinal(), b.GetOrdinal()))
	})
	return out[:min(q.Limit, len(out))], nil
}

func (s *embedderStore) Backlog(_ context.Context, limit int64, except []string) (full bool, err error) {
	s.read(func() { full = int64(len(s.t.due(except))) >= limit })
	return full, nil
}

func (s *embedderStore) Breakers(_ context.Context, seen int64) (out map[string][]byte, changes int64, err error) {
	s.read(func() {
		if changes, _ = s.t.changes.get(struct{}{}); changes != seen {
			out = s.t.breakers.all()
			for endpoint, state := range out { // the caller's, as what a database hands out
				out[endpoint] = slices.Clone(state)
			}
		}
	})
	return out, changes, nil
}

func (s *embedderStore) SetBreaker(ctx context.Context, endpoint string, state []byte, seen int64) (int64, error) {
	return seen + 1, s.transaction(ctx, func() error {
		if changes, _ := s.t.changes.get(struct{}{}); changes != seen {
			return embedder.ErrConflict
		}
		s.t.changes.put(struct{}{}, seen+1)
		if state == nil {
			s.t.breakers.del(endpoint)
			return nil
		}
		s.t.breakers.put(endpoint, slices.Clone(state))
		return nil
	})
}

func (s *embedderStore) Status(context.Context) (pending, retrying, documents, chunks int64, err error) {
	s.read(func() {
		for _, w := range s.t.jobs.all() {
			if w.tries == 0 {
				pending++
			} else {
				retrying++
			}
		}
		for _, h := range s.t.documents.all() {
			if h.document.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_CURRENT {
				documents++
			}
			chunks += int64(len(h.pieces))
		}
	})
	return pending, retrying, documents, chunks, nil
}
