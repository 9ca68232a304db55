package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector/generic"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/internal/wikisim"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept keeps what was produced; it fails while told to.
type kept struct {
	mu     sync.Mutex
	events []*eventv1.Event
	others []stage.Output // to other topics
	fail   bool
	before func(produced int) // is called before anything is written, with how many events were
}

func (k *kept) Produce(_ context.Context, outs []stage.Output) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.before != nil {
		k.before(len(k.events))
	}
	if k.fail {
		return errors.New("kafka is away")
	}
	for _, o := range outs {
		if o.Topic != kafka.TopicAccepted {
			k.others = append(k.others, o)
			continue
		}
		ev := &eventv1.Event{}
		if err := proto.Unmarshal(o.Value, ev); err != nil {
			return err
		}
		k.events = append(k.events, ev)
	}
	return nil
}

func (k *kept) all() []*eventv1.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]*eventv1.Event{}, k.events...)
}

func sources(t testing.TB, url string) []reconciler.Source {
	file := fmt.Sprintf(`
sources:
  - {name: wiki, preset: x, content: {fetch: "%s/pages/{document_id}"}, poll: {changes: "%s/changes?cursor={cursor}&limit=7", interval: 1h}}
  - {name: list, preset: x, poll: {changes: "%s/changes?cursor={cursor}", interval: 1h}}
  - {name: deaf, preset: x}
`, url, url, url)
	cfg, err := config.Parse("f", []byte(file), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	var out []reconciler.Source
	for _, s := range cfg.Sources {
		src := reconciler.Source{Source: s, OrderingMode: eventv1.OrderingMode_ORDERING_MODE_MONOTONIC}
		var err error
		if src.Connector, err = generic.New(s, nil); err != nil {
			t.Fatal(err)
		}
		out = append(out, src)
	}
	return out
}

func open(t testing.TB, path, url string, k *kept) (*reconciler.Service, *sqlitestore.Store) {
	store, err := sqlitestore.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := reconciler.New(reconciler.Deps{Store: store, Producer: k, Telemetry: telemetry.Nop(), Now: time.Now}, reconciler.Config{}, sources(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return s, store
}

// Whatever happened before, one poll that ends well has told every change since the last one, deletions included.
func TestAPollTellsEveryChange(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		wiki := wikisim.New(rapid.Uint64().Draw(rt, "seed"), time.Now)
		srv := httptest.NewServer(wiki.Handler())
		defer srv.Close()
		k := &kept{}
		s, store := open(t, filepath.Join(dir, fmt.Sprint(n, ".db")), srv.URL, k)
		defer func() { _ = store.Close() }()
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 20).Draw(rt, "changes") {
				wiki.Step()
			}
			k.mu.Lock()
			k.fail = rapid.Bool().Draw(rt, "kafka is away")
			k.mu.Unlock()
			_, _ = s.PollSource(context.Background(), &reconcilerv1.PollSourceRequest{Source: "wiki"})
		}
		k.mu.Lock()
		k.fail = false
		k.mu.Unlock()
		if _, err := s.PollSource(context.Background(), &reconcilerv1.PollSourceRequest{Source: "wiki"}); err != nil {
			rt.Fatal(err)
		}
		newest := map[string]*eventv1.Event{}
		for _, ev := range k.all() {
			if old := newest[ev.GetDocumentId()]; old == nil || ev.GetSequence() >= old.GetSequence() {
				newest[ev.GetDocumentId()] = ev
			}
		}
		for id, p := range wiki.Snapshot() {
			ev := newest[id]
			if ev == nil || ev.GetSequence() != p.Version || (ev.GetAction() == eventv1.Action_ACTION_DELETED) != p.Deleted() || ev.GetOrigin() != eventv1.Origin_ORIGIN_POLL {
				rt.Fatalf("%s is at version %d in the wiki, told was %v", id, p.Version, ev)
			}
		}
	})
}

// feed hands records to one of the stages.
func feed(t *testing.T, store *sqlitestore.Store, h stage.Handler[reconciler.Tx], values ...[]byte) {
	t.Helper()
	pos, _, err := store.Claim(t.Context(), "t", 0)
	if err != nil {
		t.Fatal(err)
	}
	b := stage.Batch{Now: time.Now()}
	for i, v := range values {
		b.Records = append(b.Records, stage.Record{Topic: "t", Offset: int64(i), Value: v})
	}
	if err := store.Update(t.Context(), func(ctx context.Context, tx reconciler.Tx) (stage.Advance, error) {
		_, err := h.Handle(ctx, tx, b)
		return stage.Advance{Position: pos}, err
	}); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDebtsArePaidOrStayVisible(t *testing.T) {
	wiki := wikisim.New(1, time.Now)
	wiki.Step()
	srv := httptest.NewServer(wiki.Handler())
	defer srv.Close()
	k := &kept{}
	s, store := open(t, filepath.Join(t.TempDir(), "r.db"), srv.URL, k)
	defer func() { _ = store.Close() }()
	debt := func(source, doc string) []byte {
		return encode(t, &eventv1.Debt{Source: source, DocumentId: doc, Reason: "GAP"})
	}
	feed(t, store, s.Debts(), debt("wiki", "page-1"), debt("wiki", "page-1"), debt("list", ""), debt("deaf", "x"), debt("removed", "y"), []byte{0xff})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for end := time.Now().Add(10 * time.Second); ; {
		owing, err := store.DebtSources(t.Context())
		if err != nil || time.Now().After(end) {
			t.Fatalf("%v still owe, %v", owing, err)
		}
		if len(owing) == 1 && owing[0] == "deaf" {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	byDebt := 0
	for _, ev := range k.all() {
		if ev.GetOrigin() == eventv1.Origin_ORIGIN_DEBT {
			byDebt++
			if ev.GetDocumentId() != "page-1" || ev.Sequence != nil {
				t.Errorf("asked for %v", ev)
			}
		}
	}
	if byDebt != 1 {
		t.Errorf("the same debt was paid %d times", byDebt)
	}
	// What a source that was taken out of the configuration owes ends with it, but was not paid.
	if got, err := store.CountDebts(t.Context(), "removed"); err != nil || got != (reconciler.DebtCount{WrittenOff: 1}) {
		t.Errorf("of a removed source: %+v, %v", got, err)
	}
	list, err := s.ListSources(t.Context(), &reconcilerv1.ListSourcesRequest{})
	if err != nil || len(list.GetSources()) != 3 || list.GetSources()[2].GetOpenDebts() != 1 || list.GetSources()[0].GetPaidDebts() != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestDeadLettersAreKeptOnceAndListedNewestFirst(t *testing.T) {
	k := &kept{}
	s, store := open(t, filepath.Join(t.TempDir(), "r.db"), "http://127.0.0.1:1", k)
	defer func() { _ = store.Close() }()
	var raws [][]byte
	for i := range 5 {
		raws = append(raws, encode(t, &eventv1.DeadLetter{Id: fmt.Sprint("l", i), Source: "wiki", Payload: []byte("p"), FailedAt: timestamppb.Now()}))
	}
	feed(t, store, s.DeadLetters(), append(raws, raws[0], []byte{0xff})...)
	var ids []string
	token := ""
	for {
		page, err := s.ListDeadLetters(t.Context(), &reconcilerv1.ListDeadLettersRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.GetDeadLetters() {
			ids = append(ids, d.GetId())
			if d.Payload != nil {
				t.Error("a list carries payloads")
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if fmt.Sprint(ids) != "[t-0-6 l4 l3 l2 l1 l0]" {
		t.Errorf("%v", ids)
	}
	one, err := s.GetDeadLetter(t.Context(), &reconcilerv1.GetDeadLetterRequest{Id: "l3"})
	if err != nil || string(one.GetDeadLetter().GetPayload()) != "p" {
		t.Errorf("%v, %v", one, err)
	}
}

func TestBadCallsAreAnsweredClearly(t *testing.T) {
	s, store := open(t, filepath.Join(t.TempDir(), "r.db"), "http://127.0.0.1:1", &kept{})
	defer func() { _ = store.Close() }()
	call := func(source string) codes.Code {
		_, err := s.PollSource(t.Context(), &reconcilerv1.PollSourceRequest{Source: source})
		return status.Code(err)
	}
	if call("nothing") != codes.NotFound || call("deaf") != codes.FailedPrecondition || call("wiki") != codes.Unavailable {
		t.Errorf("%v %v %v", call("nothing"), call("deaf"), call("wiki"))
	}
	if _, err := s.GetDeadLetter(t.Context(), &reconcilerv1.GetDeadLetterRequest{Id: "x"}); status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
	if _, err := s.ListDeadLetters(t.Context(), &reconcilerv1.ListDeadLettersRequest{PageToken: "?"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v", err)
	}
}
