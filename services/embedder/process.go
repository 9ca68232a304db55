package embedder

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder/chunk"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
	"github.com/hookmesh/hookmesh/services/embedder/extract"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// errBehind says that the source serves an older version than it told us of: its own caches need a moment.
var errBehind = errors.New("the source still serves an older version")

// errNoContent says that there is no way to get the content.
var errNoContent = errors.New("the event carries no content and the source has neither content.fetch nor a connector that fetches")

// attempt does the work of a job.
func (s *Service) attempt(ctx context.Context, job *Job, learned *visit) error {
	believed, err := s.believes(ctx, job)
	if err != nil {
		return err
	}
	switch job.Change.GetEvent().GetAction() {
	case eventv1.Action_ACTION_DELETED, eventv1.Action_ACTION_SUBTREE_DELETED:
		if believed {
			return s.remove(ctx, job)
		}
	}
	doc, err := s.content(ctx, job, believed, learned)
	var elsewhere *connector.ElsewhereError
	switch {
	case errors.Is(err, connector.ErrGone):
		return s.remove(ctx, job)
	case errors.As(err, &elsewhere):
		return s.redirect(ctx, job, elsewhere)
	}
	if err != nil {
		return err
	}
	return s.replace(ctx, job, doc, learned)
}

// content returns the document's content: what the event carries if it is believed, or what the source serves now.
func (s *Service) content(ctx context.Context, job *Job, believed bool, learned *visit) (connector.Document, error) {
	ev := job.Change.GetEvent()
	c := ev.GetContent()
	f := s.fetcher(job.Source)
	if c.GetInline() && believed {
		return connector.Document{Content: []byte(c.GetText()), Format: formats[c.GetFormat()], Title: c.GetTitle(), URL: c.GetUrl(), Version: ev.GetVersion()}, nil
	}
	if f == nil {
		return connector.Document{}, &connector.Error{Permanent: true, Err: errNoContent}
	}
	ctx, span := s.tracer.Start(ctx, "fetch", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	doc, err := f.Fetch(ctx, connector.Ref{ID: job.DocumentID, URL: c.GetUrl()})
	learned.fetched(err)
	if err != nil {
		return doc, err
	}
	span.SetAttributes(attribute.Int("hookmesh.bytes", len(doc.Content)))
	if behind(doc.Version, ev.GetVersion()) {
		return doc, &connector.Error{Err: fmt.Errorf("%w: %s instead of %s", errBehind, doc.Version, ev.GetVersion())}
	}
	if doc.Title == "" {
		doc.Title = c.GetTitle()
	}
	if doc.URL == "" {
		doc.URL = c.GetUrl()
	}
	if doc.Version == "" {
		doc.Version = ev.GetVersion()
	}
	return doc, nil
}

// behind compares versions that are whole numbers; others cannot be compared.
func behind(fetched, told string) bool {
	f, err1 := strconv.ParseInt(fetched, 10, 64)
	t, err2 := strconv.ParseInt(told, 10, 64)
	return err1 == nil && err2 == nil && f < t
}

var formats = map[eventv1.ContentFormat]extract.Format{
	eventv1.ContentFormat_CONTENT_FORMAT_MARKDOWN: extract.FormatMarkdown, eventv1.ContentFormat_CONTENT_FORMAT_HTML: extract.FormatHTML,
	eventv1.ContentFormat_CONTENT_FORMAT_CONFLUENCE_STORAGE: extract.FormatConfluenceStorage, eventv1.ContentFormat_CONTENT_FORMAT_PLAIN: extract.FormatPlain,
}

// replace makes a document's content searchable, embedding only what is new.
func (s *Service) replace(ctx context.Context, job *Job, src connector.Document, learned *visit) error {
	text, problems, err := s.extract.Document(ctx, src)
	if err != nil {
		return &connector.Error{Permanent: errors.Is(err, extract.ErrUnreadable), Err: err}
	}
	for _, problem := range problems {
		s.deps.Telemetry.Logger.WarnContext(ctx, "a part of a document cannot be read and is left out", "source", job.Source, "document", job.DocumentID, "error", problem)
	}
	chunks := chunk.Split(src.Title, text, chunk.Options{})
	model := s.deps.Model.Info().Fingerprint
	known, err := s.deps.Store.Vectors(ctx, job.Source, job.DocumentID, model)
	if err != nil {
		return fmt.Errorf("read the document's vectors: %w", err)
	}
	counts, err := s.embed(ctx, src.Title, chunks, known, learned)
	if err != nil {
		return err
	}
	doc := Document{Title: src.Title, URL: src.URL, Version: src.Version, TextHash: sha256.Sum256([]byte(text)), Model: model}
	now := map[[32]byte]bool{}
	for _, c := range chunks {
		doc.Pieces = append(doc.Pieces, Piece{Ordinal: c.Ordinal, HeadingPath: c.HeadingPath, Text: c.Text, Hash: c.Hash, Vector: known[c.Hash]})
		now[c.Hash] = true
	}
	for hash := range known {
		if !now[hash] {
			counts.Removed++
		}
	}
	ctx, span := s.tracer.Start(ctx, "store", trace.WithAttributes(attribute.Int("hookmesh.chunks.reused", counts.Reused),
		attribute.Int("hookmesh.chunks.new", counts.New), attribute.Int("hookmesh.chunks.removed", counts.Removed)))
	defer span.End()
	record := s.record(job, embedderv1.Outcome_OUTCOME_EMBEDDED)
	record.ChunksReused, record.ChunksNew, record.ChunksRemoved = int32(counts.Reused), int32(counts.New), int32(counts.Removed)
	if err := s.deps.Store.Replace(ctx, job, doc, record, s.deps.Now()); err != nil {
		return fmt.Errorf("replace document: %w", err)
	}
	s.done(ctx, job, record, "embedded")
	for what, n := range map[string]int{"reused": counts.Reused, "new": counts.New, "removed": counts.Removed} {
		s.meters.chunks.Add(ctx, int64(n), metric.WithAttributes(attribute.String("source", job.Source), attribute.String("what", what)))
	}
	return nil
}

// embed fills known with the vectors of the chunks that are not in it.
func (s *Service) embed(ctx context.Context, title string, chunks []chunk.Chunk, known map[[32]byte][]float32, learned *visit) (Counts, error) {
	var counts Counts
	var texts []string
	var hashes [][32]byte
	asked := map[[32]byte]bool{}
	for _, c := range chunks {
		switch {
		case known[c.Hash] != nil:
			counts.Reused++
		case !asked[c.Hash]:
			asked[c.Hash] = true
			texts, hashes = append(texts, c.Embeddable(title)), append(hashes, c.Hash)
		}
	}
	counts.New = len(texts)
	if len(texts) == 0 {
		return counts, nil
	}
	ctx, span := s.tracer.Start(ctx, "embed", trace.WithAttributes(attribute.Int("hookmesh.chunks", len(texts)), attribute.String("hookmesh.model", s.deps.Model.Info().Name)))
	defer span.End()
	vectors, err := s.deps.Model.Embed(ctx, texts)
	learned.embedded(err)
	if e, ok := embedding.AsError(err); ok {
		return counts, &connector.Error{Permanent: e.Permanent, RetryAfter: e.RetryAfter, Err: e}
	}
	if err != nil {
		return counts, err
	}
	for i, v := range vectors {
		known[hashes[i]] = v
	}
	return counts, nil
}

// remove takes a document out of the knowledge base.
func (s *Service) remove(ctx context.Context, job *Job) error {
	record := s.record(job, embedderv1.Outcome_OUTCOME_REMOVED)
	subtree := job.Change.GetEvent().GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED
	if err := s.deps.Store.Remove(ctx, job, subtree, record, s.deps.Now()); err != nil {
		return fmt.Errorf("remove document: %w", err)
	}
	s.done(ctx, job, record, "removed")
	return nil
}

// redirect lets the document be fetched that a job is really about. Under the job's own id there is none.
func (s *Service) redirect(ctx context.Context, job *Job, to *connector.ElsewhereError) error {
	ev := job.Change.GetEvent()
	debt, err := events.Output(kafka.TopicDebts, job.Source, to.ID, &eventv1.Debt{Source: job.Source, DocumentId: to.ID, Url: to.URL, Reason: "ELSEWHERE", EventId: ev.GetId(), IncurredAt: timestamppb.New(s.deps.Now())})
	if err == nil {
		debt.Context = ctx
		err = s.deps.Producer.Produce(ctx, []stage.Output{debt})
	}
	if err != nil {
		return fmt.Errorf("let document %s be fetched instead: %w", to.ID, err)
	}
	record := s.record(job, embedderv1.Outcome_OUTCOME_SUPERSEDED)
	record.Reason = "it is about document " + to.ID + ", which is fetched instead"
	if err := s.deps.Store.Remove(ctx, job, false, record, s.deps.Now()); err != nil {
		return fmt.Errorf("end the job: %w", err)
	}
	s.count(ctx, job.Source, "elsewhere")
	return nil
}

// record describes an outcome, with the time that it took since the change.
func (s *Service) record(job *Job, outcome embedderv1.Outcome) *embedderv1.EventRecord {
	ev, now := job.Change.GetEvent(), s.deps.Now()
	since := ev.GetOccurredAt()
	if since == nil {
		since = ev.GetReceivedAt()
	}
	r := &embedderv1.EventRecord{Id: ev.GetId(), Outcome: outcome, Attempts: int32(job.Attempts + 1), DecidedAt: timestamppb.New(now)}
	if since != nil {
		r.FreshnessMs = max(0, now.Sub(since.AsTime()).Milliseconds())
	}
	return r
}

func (s *Service) done(ctx context.Context, job *Job, r *embedderv1.EventRecord, outcome string) {
	s.count(ctx, job.Source, outcome)
	s.meters.freshness.Record(ctx, float64(r.GetFreshnessMs())/1000, metric.WithAttributes(attribute.String("source", job.Source)))
}

// classify says whether another try is worth it, and how long to wait at least.
func classify(err error) (permanent bool, after time.Duration) {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Permanent, e.RetryAfter
	}
	return false, 0
}

// withoutContent is an event without what the change beside it holds as well: together they may be too large for a record.
func withoutContent(ev *eventv1.Event) *eventv1.Event {
	slim := proto.CloneOf(ev)
	slim.Payload, slim.Content, slim.Headers = nil, nil, nil
	return slim
}

// deadLetter is what is left of a job that is given up. Payload and headers stand where those of the other stages do, once.
func deadLetter(ctx context.Context, job *Job, cause error, now time.Time) (stage.Output, error) {
	ev, change := job.Change.GetEvent(), proto.CloneOf(job.Change)
	change.Event.Payload, change.Event.Headers = nil, nil
	letter := &eventv1.DeadLetter{
		Id: ev.GetId(), Source: job.Source, DocumentId: job.DocumentID, Stage: "embedder", Code: "GIVEN_UP", Error: cause.Error(),
		Attempts: int32(job.Attempts + 1), FailedAt: timestamppb.New(now), Event: withoutContent(ev), Change: change, Topic: kafka.TopicChanged,
		Payload: ev.GetPayload(), Headers: ev.GetHeaders(), ReceivedAt: ev.GetReceivedAt(),
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		letter.TraceId, letter.SpanId = sc.TraceID().String(), sc.SpanID().String()
	}
	out, err := events.Output(kafka.TopicDead, job.Source, job.DocumentID, letter)
	out.Context = ctx
	return out, err
}
