package embedder_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/generic"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
	"github.com/hookmesh/hookmesh/services/embedder/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// model counts the texts that it embeds.
type model struct {
	mu    sync.Mutex
	texts map[string]int
	fail  error
}

func (m *model) Info() embedding.Info {
	return embedding.Info{Name: "test", Dimensions: 8, Fingerprint: "test"}
}

func (m *model) Embed(_ context.Context, texts []string) ([][]float32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	out := make([][]float32, len(texts))
	for i, t := range texts {
		m.texts[t]++
		v := make([]float32, 8)
		for _, w := range strings.Fields(strings.ToLower(t)) {
			h := fnv.New32a()
			_, _ = h.Write([]byte(w))
			v[h.Sum32()%8]++
		}
		out[i] = v
	}
	return out, nil
}

// letters keeps what was produced.
type letters struct {
	mu    sync.Mutex
	outs  []stage.Output
	debts int
}

func (l *letters) Produce(_ context.Context, outs []stage.Output) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range outs {
		if o.Topic == kafka.TopicDead {
			l.outs = append(l.outs, o)
		} else {
			l.debts++
		}
	}
	return nil
}

// count counts letters by their ids: a worker that has lost its lease (these tests move the clock in jumps) may write one that
// another writes too, and whoever keeps them knows them by id.
func (l *letters) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]bool{}
	for _, o := range l.outs {
		d := &eventv1.DeadLetter{}
		if err := proto.Unmarshal(o.Value, d); err == nil {
			ids[d.GetId()] = true
		}
	}
	return len(ids)
}

// bench is an embedder over a real store, with a clock that tests move.
type bench struct {
	service *embedder.Service
	store   *sqlitestore.Store
	model   *model
	dead    *letters
	content config.Content
	mu      sync.Mutex
	offset  time.Duration
	// frozen: the clock moves by the test alone; zero: it runs.
	frozen time.Time
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.frozen.IsZero() {
		return b.frozen.Add(b.offset)
	}
	return time.Now().Add(b.offset)
}

func (b *bench) wait(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offset += d
}

func newBench(t testing.TB, dir string, content config.Content) *bench {
	b := &bench{model: &model{texts: map[string]int{}}, dead: &letters{}}
	var err error
	if b.store, err = sqlitestore.Open(context.Background(), filepath.Join(dir, "k.db")); err != nil {
		t.Fatal(err)
	}
	b.start(t, content)
	return b
}

// beside is a second embedder over the same store.
func (b *bench) beside(t testing.TB) *bench {
	second := &bench{store: b.store, model: b.model, dead: &letters{}}
	second.start(t, b.content)
	return second
}

func (b *bench) start(t testing.TB, content config.Content) {
	b.content = content
	fetchers := map[string]connector.Fetcher{}
	c, err := generic.New(config.Source{Content: content}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Fetcher != nil {
		fetchers["s"] = c.Fetcher
	}
	b.service, err = embedder.New(embedder.Deps{Store: b.store, Model: b.model, Producer: b.dead, Telemetry: telemetry.Nop(), Now: b.now, Fetchers: fetchers},
		embedder.Config{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
}

// running lets the workers work until the returned function is called.
func (b *bench) running() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.service.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

func change(doc string, revision int64, action eventv1.Action, text string) *eventv1.Change {
	return &eventv1.Change{Revision: revision, Event: &eventv1.Event{
		Id: fmt.Sprintf("%s-%d", doc, revision), Source: "s", DocumentId: doc, Action: action, Version: fmt.Sprint(revision),
		Content: &eventv1.Content{Inline: text != "", Text: text, Title: "T"},
	}}
}

// feed hands changes to the stage.
func (b *bench) feed(t interface{ Fatal(...any) }, changes ...*eventv1.Change) {
	ctx := context.Background()
	pos, _, err := b.store.Claim(ctx, kafka.TopicChanged, 0)
	if err != nil {
		t.Fatal(err)
	}
	batch := stage.Batch{Now: b.now()}
	for _, c := range changes {
		raw, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		batch.Records = append(batch.Records, stage.Record{Value: raw, Context: ctx})
	}
	var committed func()
	if err := b.store.Update(ctx, func(ctx context.Context, tx embedder.Tx) (stage.Advance, error) {
		res, err := b.service.Handle(ctx, tx, batch)
		committed = res.Committed
		return stage.Advance{Position: pos}, err
	}); err != nil {
		t.Fatal(err)
	}
	committed()
}

func (b *bench) document(doc string) (*embedderv1.Document, string) {
	res, err := b.service.GetDocument(context.Background(), &embedderv1.GetDocumentRequest{Source: "s", DocumentId: doc, IncludeChunks: true})
	if err != nil {
		return &embedderv1.Document{}, ""
	}
	var text []string
	for _, c := range res.GetChunks() {
		text = append(text, c.GetText())
	}
	return res.GetDocument(), strings.Join(text, "\n\n")
}

func until(t interface{ Fatalf(string, ...any) }, what string, check func() bool) {
	for end := time.Now().Add(10 * time.Second); !check(); {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

const up, del, sub = eventv1.Action_ACTION_UPDATED, eventv1.Action_ACTION_DELETED, eventv1.Action_ACTION_SUBTREE_DELETED

func TestOnlyWhatChangedIsEmbeddedAgain(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	defer b.running()()
	b.feed(t, change("d", 1, up, "# A\n\none\n\n# B\n\ntwo"))
	until(t, "first version", func() bool { d, _ := b.document("d"); return d.GetRevision() == 1 })
	b.feed(t, change("d", 2, up, "# A\n\none\n\n# B\n\nthree"))
	until(t, "second version", func() bool { d, _ := b.document("d"); return d.GetRevision() == 2 })
	res, err := b.service.GetEvent(t.Context(), &embedderv1.GetEventRequest{Id: "d-2"})
	if err != nil || res.GetEvent().GetChunksNew() != 1 || res.GetEvent().GetChunksReused() != 1 || res.GetEvent().GetChunksRemoved() != 1 {
		t.Errorf("%v, %v", res, err)
	}
	for text, n := range b.model.texts {
		if n != 1 {
			t.Errorf("%q was embedded %d times", text, n)
		}
	}
}

func TestDeletionsRemoveAndOldChangesDoNotBringBack(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	defer b.running()()
	b.feed(t, change("r/a", 1, up, "alpha"), change("r/b", 1, up, "beta"), change("rx", 1, up, "gamma"))
	until(t, "all there", func() bool { _, n, d, _, _ := b.store.Status(context.Background()); return n == 0 && d == 3 })
	b.feed(t, change("r/a", 3, del, ""))
	until(t, "deleted", func() bool {
		d, _ := b.document("r/a")
		return d.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_DELETED
	})
	b.feed(t, change("r/a", 2, up, "late"))
	b.feed(t, change("r", 1, sub, ""))
	until(t, "the subtree is gone", func() bool {
		d, _ := b.document("r/b")
		return d.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_DELETED
	})
	if d, text := b.document("r/a"); text != "" || d.GetRevision() != 3 {
		t.Errorf("came back: %v %q", d, text)
	}
	if _, text := b.document("rx"); text != "gamma" {
		t.Errorf("the subtree took a neighbour along: %q", text)
	}
	if res, err := b.service.Search(t.Context(), &embedderv1.SearchRequest{Query: "beta"}); err != nil || len(res.GetResults()) > 0 && res.GetResults()[0].GetText() == "beta" {
		t.Errorf("%v, %v", res, err)
	}
}

func TestContentIsFetchedAndFailuresHaveTheirOwnEnds(t *testing.T) {
	var mu sync.Mutex
	status, version, calls := 200, 5, 0
	set := func(s, v int) { mu.Lock(); defer mu.Unlock(); status, version = s, v }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"body":"text of %s","title":"Fetched","version":%d}`, r.URL.Path, version)
	}))
	defer srv.Close()
	b := newBench(t, t.TempDir(), config.Content{Fetch: srv.URL + "/p/{document_id}", Body: "body", Title: "title", Version: "version"})
	defer func() { _ = b.store.Close() }()
	defer b.running()()

	b.feed(t, change("a/b", 5, up, ""))
	until(t, "fetched", func() bool {
		d, text := b.document("a/b")
		return d.GetTitle() == "Fetched" && strings.Contains(text, "/p/a")
	})

	set(404, 0)
	b.feed(t, change("a/b", 6, up, ""))
	until(t, "404 means deleted", func() bool {
		d, _ := b.document("a/b")
		return d.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_DELETED
	})

	set(200, 6) // behind: the event says 7
	b.feed(t, change("c", 7, up, ""))
	until(t, "the source is behind", func() bool { d, _ := b.document("c"); return strings.Contains(d.GetError(), "older version") })
	set(200, 7)
	b.wait(time.Minute)
	until(t, "the source has caught up", func() bool { d, _ := b.document("c"); return d.GetVersion() == "7" })

	set(500, 0)
	b.feed(t, change("d", 1, up, ""))
	// The clock is not moved here: a jump would end the lease of the worker that is on it.
	until(t, "given up after three tries", func() bool { return b.dead.count() == 1 })
	until(t, "dead", func() bool {
		d, _ := b.document("d")
		return d.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_DEAD
	})

	set(401, 0)
	b.feed(t, change("e", 1, up, ""), change("f", 1, up, ""))
	until(t, "the breaker is open", func() bool {
		st, err := b.service.GetStatus(context.Background(), &embedderv1.GetStatusRequest{})
		return err == nil && len(st.GetBreakersOpen()) == 1
	})
	until(t, "both wait", func() bool {
		e, _ := b.document("e")
		f, _ := b.document("f")
		return e.GetError() != "" && f.GetError() != ""
	})
	set(200, 1)
	b.wait(time.Minute)
	until(t, "they went on", func() bool {
		e, _ := b.document("e")
		f, _ := b.document("f")
		return e.GetRevision() == 1 && f.GetRevision() == 1
	})
	if b.dead.count() != 1 {
		t.Errorf("%d dead letters: documents of a source that refuses us must wait", b.dead.count())
	}
	until(t, "the breaker that closed is a debt", func() bool { // it is written after the document
		b.dead.mu.Lock()
		defer b.dead.mu.Unlock()
		return b.dead.debts == 1
	})
}

// Changes come in any order and number, workers die in the middle: the newest revision stays, nothing goes back.
func TestTheNewestRevisionAlwaysWins(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		b := newBench(t, filepath.Join(dir, fmt.Sprint(n)), config.Content{})
		defer func() { _ = b.store.Close() }()
		newest := map[string]*eventv1.Change{}
		stop := b.running()
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			doc := fmt.Sprint("doc", rapid.IntRange(0, 2).Draw(rt, "doc"))
			rev := rapid.Int64Range(1, 20).Draw(rt, "revision")
			c := change(doc, rev, up, fmt.Sprintf("text %d of %s", rev, doc))
			if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
				c = change(doc, rev, del, "")
			}
			if old := newest[doc]; old == nil || rev > old.GetRevision() {
				newest[doc] = c
			}
			b.feed(rt, c)
			if rapid.IntRange(0, 3).Draw(rt, "restart") == 0 {
				stop()
				b.wait(5 * time.Minute) // leases of those who died end
				stop = b.running()
			}
		}
		for doc, c := range newest {
			until(rt, doc, func() bool {
				d, text := b.document(doc)
				want := ""
				if c.GetEvent().GetAction() == up {
					want = c.GetEvent().GetContent().GetText()
				}
				return d.GetRevision() == c.GetRevision() && text == want
			})
		}
		stop()
	})
}

func TestNothingThatAPersonTypesBreaksASearch(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	for _, q := range []string{`"`, `a AND`, `NEAR(`, `title:x`, `*`, `'; DROP TABLE words; --`, strings.Repeat("w ", 3000), "日本"} {
		if _, err := b.service.Search(t.Context(), &embedderv1.SearchRequest{Query: q}); err != nil {
			t.Errorf("%.20q: %v", q, err)
		}
	}
	if _, err := b.service.Search(t.Context(), &embedderv1.SearchRequest{Query: " "}); err == nil {
		t.Error("an empty question was answered")
	}
	if _, err := b.service.ListDocuments(t.Context(), &embedderv1.ListDocumentsRequest{PageToken: "!!"}); err == nil {
		t.Error("a bad page token was taken")
	}
}

// An endpoint that is away uses up no tries once its breaker is open, and everything goes on when it is back.
func TestDocumentsWaitWhileTheModelIsAway(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	fail := func(err error) { b.model.mu.Lock(); defer b.model.mu.Unlock(); b.model.fail = err }
	fail(&embedding.Error{Err: fmt.Errorf("HTTP 503")})
	defer b.running()()
	const documents = 12
	for i := range documents {
		b.feed(t, change(fmt.Sprint("d", i), 1, up, "text"))
	}
	until(t, "the model is left alone", func() bool {
		st, err := b.service.GetStatus(context.Background(), &embedderv1.GetStatusRequest{})
		return err == nil && len(st.GetBreakers()) == 1 && st.GetBreakers()[0].GetModel() && len(st.GetBreakersOpen()) == 0
	})
	for range 200 { // far longer than three tries would take
		b.wait(2 * time.Second)
		<-time.After(time.Millisecond)
	}
	if n := b.dead.count(); n != 0 {
		t.Fatalf("%d documents were given up because the model was away", n)
	}
	fail(nil)
	until(t, "all are searchable", func() bool {
		b.wait(time.Second)
		_, _, n, _, err := b.store.Status(context.Background())
		return err == nil && n == documents
	})
}

// The very same change again, as a replay sends it twice, changes nothing that is known of it.
func TestAChangeThatComesTwiceKeepsItsRecord(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	defer b.running()()
	c := change("d", 3, up, "text")
	b.feed(t, c)
	until(t, "embedded", func() bool { d, _ := b.document("d"); return d.GetRevision() == 3 })
	b.feed(t, c)
	b.feed(t, change("d", 2, up, "older"))
	for id, want := range map[string]embedderv1.Outcome{"d-3": embedderv1.Outcome_OUTCOME_EMBEDDED, "d-2": embedderv1.Outcome_OUTCOME_SUPERSEDED} {
		if res, err := b.service.GetEvent(t.Context(), &embedderv1.GetEventRequest{Id: id}); err != nil || res.GetEvent().GetOutcome() != want {
			t.Errorf("%s: %v, %v", id, res, err)
		}
	}
}

// A webhook that comes while a backfill goes on is worked on before what the backfill brought.
func TestLiveEventsGoBeforeABackfill(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	born := func(doc string, origin eventv1.Origin) *eventv1.Change {
		c := change(doc, 1, up, "text")
		c.Event.Origin = origin
		return c
	}
	b.feed(t, born("filled-1", eventv1.Origin_ORIGIN_POLL), born("filled-2", eventv1.Origin_ORIGIN_POLL), born("missed", eventv1.Origin_ORIGIN_DEBT))
	b.wait(time.Minute)
	b.feed(t, born("live", eventv1.Origin_ORIGIN_WEBHOOK))
	for _, want := range []string{"live", "missed", "filled-1"} {
		job, err := b.store.Take(t.Context(), b.now(), time.Hour, nil)
		if err != nil || job == nil || job.DocumentID != want {
			t.Fatalf("%v, %v, want %s", job, err, want)
		}
	}
}

// What was given up tells as much of its request as what was never understood: payload and headers, once each.
func TestADeadLetterTellsOfTheRequestThatBroughtTheChange(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	defer b.running()()
	c := change("d", 4, up, "") // without content, and nothing to fetch it with
	c.Event.Payload, c.Event.Headers, c.Event.ReceivedAt = []byte(`{"page":"d"}`), []*eventv1.Header{{Name: "X-Event", Value: []byte("push")}}, timestamppb.New(b.now())
	b.feed(t, c)
	until(t, "given up", func() bool { return b.dead.count() == 1 })
	b.dead.mu.Lock()
	defer b.dead.mu.Unlock()
	l := &eventv1.DeadLetter{}
	if err := proto.Unmarshal(b.dead.outs[0].Value, l); err != nil {
		t.Fatal(err)
	}
	if string(l.GetPayload()) != `{"page":"d"}` || len(l.GetHeaders()) != 1 || string(l.GetHeaders()[0].GetValue()) != "push" || l.GetReceivedAt() == nil || l.GetAttempts() != 1 || l.GetError() == "" {
		t.Errorf("%v", l)
	}
	if ev := l.GetChange().GetEvent(); l.GetChange().GetRevision() != 4 || len(ev.GetPayload())+len(ev.GetHeaders())+len(l.GetEvent().GetPayload())+len(l.GetEvent().GetHeaders()) != 0 {
		t.Errorf("payload and headers stand there more than once: %v", l)
	}
}

// A restart is no reason to meet a source that is away with everything that waits for it: it goes on being left alone, one document
// probes, and when it is back everything goes on and what was missed is owed.
func TestASourceIsLeftAloneAcrossARestart(t *testing.T) {
	var before, asked, healthy atomic.Int64
	content := func(asked *atomic.Int64) config.Content {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			if healthy.Load() == 0 {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = fmt.Fprint(w, `{"body":"text","title":"T","version":1}`)
		}))
		t.Cleanup(srv.Close)
		return config.Content{Fetch: srv.URL + "/p/{document_id}", Body: "body", Title: "title", Version: "version"}
	}
	dir := t.TempDir()
	status := func(b *bench) *embedderv1.GetStatusResponse {
		st, err := b.service.GetStatus(context.Background(), &embedderv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	first := newBench(t, dir, content(&before))
	stop := first.running()
	const documents = 12
	for i := range documents {
		first.feed(t, change(fmt.Sprint("d", i), 1, up, ""))
	}
	until(t, "the source is left alone", func() bool {
		kept, _, err := first.store.Breakers(context.Background(), -1)
		return err == nil && len(kept) == 1 && len(status(first).GetBreakersOpen()) == 1
	})
	stop()
	if err := first.store.Close(); err != nil {
		t.Fatal(err)
	}
	second := newBench(t, dir, content(&asked))
	defer func() { _ = second.store.Close() }()
	stop = second.running()
	until(t, "it is left alone after the restart", func() bool { return len(status(second).GetBreakersOpen()) == 1 })
	second.wait(15 * time.Second) // the pause is over
	until(t, "it is probed", func() bool { return asked.Load() > 0 })
	stop()
	if n := asked.Load(); n != 1 {
		t.Errorf("%d documents met the source when its pause was over", n)
	}
	healthy.Store(1)
	defer second.running()()
	until(t, "all are searchable and what was missed is owed", func() bool {
		second.wait(time.Second)
		second.dead.mu.Lock()
		defer second.dead.mu.Unlock()
		_, _, n, _, err := second.store.Status(context.Background())
		kept, _, err2 := second.store.Breakers(context.Background(), -1)
		return err == nil && err2 == nil && n == documents && len(kept) == 0 && second.dead.debts == 1
	})
}

// Two embedders over one store leave a source alone together, and go on together when it is back; what was missed is owed once.
func TestTwoEmbeddersLeaveASourceAloneTogether(t *testing.T) {
	var asked, healthy atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if healthy.Load() == 0 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{"body":"text","title":"T","version":1}`)
	}))
	t.Cleanup(srv.Close)
	first := newBench(t, t.TempDir(), config.Content{Fetch: srv.URL + "/p/{document_id}", Body: "body", Title: "title", Version: "version"})
	defer func() { _ = first.store.Close() }()
	second := first.beside(t)
	first.frozen = time.Now()
	second.frozen = first.frozen
	open := func(b *bench) int {
		st, err := b.service.GetStatus(context.Background(), &embedderv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return len(st.GetBreakersOpen())
	}
	stop := first.running()
	const documents = 12
	for i := range documents {
		first.feed(t, change(fmt.Sprint("d", i), 1, up, ""))
	}
	until(t, "the first leaves the source alone", func() bool {
		kept, _, err := first.store.Breakers(context.Background(), -1)
		return err == nil && len(kept) == 1 && open(first) == 1
	})
	stop()
	before := asked.Load()
	stop = second.running()
	until(t, "so does the second", func() bool { return open(second) == 1 })
	stop()
	if n := asked.Load(); n != before {
		t.Errorf("the second has asked it %d times", n-before)
	}
	healthy.Store(1)
	defer second.running()()
	until(t, "all are searchable", func() bool {
		second.wait(time.Second)
		_, _, n, _, err := second.store.Status(context.Background())
		return err == nil && n == documents && open(second) == 0
	})
	defer first.running()()
	until(t, "the first learns that the source is back", func() bool { first.wait(time.Second); return open(first) == 0 })
	first.dead.mu.Lock()
	defer first.dead.mu.Unlock()
	second.dead.mu.Lock()
	defer second.dead.mu.Unlock()
	if first.dead.debts != 0 || second.dead.debts != 1 {
		t.Errorf("%d and %d debts", first.dead.debts, second.dead.debts)
	}
}

// away is a source that has a document under another id than its webhooks say.
type away struct{ connector.Fetcher }

func (away) Fetch(_ context.Context, ref connector.Ref) (connector.Document, error) {
	if ref.ID == "issue" {
		return connector.Document{}, &connector.ElsewhereError{ID: "pull", URL: "https://x/pull/1"}
	}
	return connector.Document{Content: []byte("text"), Title: "T"}, nil
}

func TestADocumentThatIsElsewhereIsFetchedThere(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	b.service.SetSources(map[string]connector.Fetcher{"s": away{}}, nil)
	defer b.running()()
	b.feed(t, change("issue", 1, up, ""), change("other", 1, up, ""))
	until(t, "the other document is owed", func() bool {
		res, err := b.service.GetEvent(context.Background(), &embedderv1.GetEventRequest{Id: "issue-1"})
		return err == nil && res.GetEvent().GetOutcome() == embedderv1.Outcome_OUTCOME_SUPERSEDED && strings.Contains(res.GetEvent().GetReason(), "pull")
	})
	until(t, "others are not concerned", func() bool { d, _ := b.document("other"); return d.GetRevision() == 1 })
	b.dead.mu.Lock()
	defer b.dead.mu.Unlock()
	if b.dead.debts != 1 || len(b.dead.outs) != 0 {
		t.Errorf("%d debts, %d letters", b.dead.debts, len(b.dead.outs))
	}
}
