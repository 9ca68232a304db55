package reconciler_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
)

// knowledge is a knowledge base.
type knowledge struct {
	embedderv1.KnowledgeServiceClient
	docs []*embedderv1.Document
}

func (k *knowledge) ListDocuments(_ context.Context, req *embedderv1.ListDocumentsRequest, _ ...grpc.CallOption) (*embedderv1.ListDocumentsResponse, error) {
	slices.SortFunc(k.docs, func(a, b *embedderv1.Document) int { return cmp.Compare(a.GetDocumentId(), b.GetDocumentId()) })
	res := &embedderv1.ListDocumentsResponse{}
	for _, d := range k.docs {
		if d.GetDocumentId() > req.GetPageToken() && len(res.Documents) < 3 {
			res.Documents = append(res.Documents, d)
		}
	}
	if n := len(res.Documents); n == 3 {
		res.NextPageToken = res.Documents[n-1].GetDocumentId()
	}
	return res, nil
}

// provider is a source that lists everything in pages of four.
type provider struct {
	mu   sync.Mutex
	ids  []string
	fail error // at the last page
	asks int
}

func (p *provider) List(_ context.Context, cursor string) (connector.Page, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks++
	from := 0
	_, _ = fmt.Sscan(cursor, &from)
	to := min(len(p.ids), from+4)
	if to == len(p.ids) && p.fail != nil {
		return connector.Page{}, p.fail
	}
	page := connector.Page{Next: fmt.Sprint(to), More: to < len(p.ids)}
	for _, id := range p.ids[from:to] {
		page.Changes = append(page.Changes, connector.Change{DocumentID: id, Version: "2"})
	}
	return page, nil
}

func (p *provider) Fetch(context.Context, connector.Ref) (connector.Document, error) {
	return connector.Document{}, errors.New("nobody fetches here")
}

func (p *provider) set(fail error, ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail, p.ids = fail, ids
}

type rig struct {
	service  *reconciler.Service
	store    *sqlitestore.Store
	kept     *kept
	provider *provider
	known    *knowledge
	metrics  *sdkmetric.ManualReader
	later    atomic.Int64 // how far the clock is ahead, as a duration
}

func newRig(t *testing.T, path string, opts ...func(*connector.Connector)) *rig {
	r := &rig{kept: &kept{}, provider: &provider{}, known: &knowledge{}, metrics: sdkmetric.NewManualReader()}
	tel := telemetry.Nop()
	tel.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.metrics))
	var err error
	if r.store, err = sqlitestore.Open(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	src := reconciler.Source{Source: config.Source{Name: "s", Poll: config.Poll{Interval: time.Hour, SweepInterval: time.Hour}}, Connector: connector.Connector{Lister: r.provider, Fetcher: r.provider}}
	for _, o := range opts {
		o(&src.Connector)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(r.later.Load())) }
	r.service, err = reconciler.New(reconciler.Deps{Store: r.store, Producer: r.kept, Telemetry: tel, Knowledge: r.known, Now: now}, reconciler.Config{Owner: "me", BackfillPerSecond: -1}, []reconciler.Source{src})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// gauge reads a gauge of one source; false: nobody has set it.
func (r *rig) gauge(t *testing.T, name string) (value int64, set bool) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.metrics.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == name {
				return data.DataPoints[0].Value, true
			}
		}
	}
	return 0, false
}

func (r *rig) know(n int, version string) {
	r.known.docs = nil
	for i := range n {
		r.known.docs = append(r.known.docs, &embedderv1.Document{Source: "s", DocumentId: fmt.Sprintf("d%02d", i), Version: version, Revision: 1, State: embedderv1.DocumentState_DOCUMENT_STATE_CURRENT})
	}
}

func ids(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("d%02d", i))
	}
	return out
}

func TestASweepFindsAndHealsWhatDiffersBothWays(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.know(30, "2")
	r.known.docs[5].Version = "1"
	r.provider.set(nil, ids(2, 33)...)
	dry, err := r.service.SweepSource(t.Context(), &reconcilerv1.SweepSourceRequest{Source: "s", DryRun: true})
	if err != nil || dry.GetReport().GetHealed() != 0 || len(r.kept.all()) != 0 {
		t.Fatalf("%v, %v", dry, err)
	}
	res, err := r.service.SweepSource(t.Context(), &reconcilerv1.SweepSourceRequest{Source: "s"})
	rep := res.GetReport()
	if err != nil || rep.GetMissing() != 3 || rep.GetExtra() != 2 || rep.GetStale() != 1 || rep.GetHealed() != 6 || rep.GetListed() != 31 || rep.GetKnown() != 30 || len(rep.GetSamples()) != 6 {
		t.Fatalf("%v, %v", rep, err)
	}
	got := map[string]eventv1.Action{}
	for _, ev := range r.kept.all() {
		got[ev.GetDocumentId()] = ev.GetAction()
		if ev.GetOrigin() != eventv1.Origin_ORIGIN_DEBT || ev.Sequence != nil {
			t.Errorf("%v would be taken for a repeat, or would have to be in order", ev)
		}
	}
	// The source itself is asked whether d00, which it does not list any more, is gone.
	if len(got) != 6 || got["d00"] != eventv1.Action_ACTION_UPDATED || got["d32"] != eventv1.Action_ACTION_UPDATED || got["d05"] != eventv1.Action_ACTION_UPDATED {
		t.Errorf("%v", got)
	}
	list, err := r.service.ListDrift(t.Context(), &reconcilerv1.ListDriftRequest{})
	if err != nil || len(list.GetReports()) != 1 || list.GetReports()[0].GetRight() <= 0.7 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestAHalfReadListRemovesNothing(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.know(30, "2")
	r.provider.set(errors.New("HTTP 500"), ids(0, 29)...)
	if _, err := r.service.SweepSource(t.Context(), &reconcilerv1.SweepSourceRequest{Source: "s"}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if n := len(r.kept.all()); n != 0 {
		t.Errorf("%d changes came out of a list that was not read to its end", n)
	}
}

func TestAMassDeletionNeedsASecondSweep(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.know(30, "2")
	r.provider.set(nil, ids(0, 8)...)
	for i, want := range []int{0, 22} {
		res, err := r.service.SweepSource(t.Context(), &reconcilerv1.SweepSourceRequest{Source: "s"})
		if err != nil || len(r.kept.all()) != want || res.GetReport().GetWithheld() != int64(22-want) {
			t.Errorf("sweep %d: %d deletions, %v, %v", i+1, len(r.kept.all()), res, err)
		}
	}
}

// run runs the service until something holds.
func run(t *testing.T, r *rig, until func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.service.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); !until(); {
		if time.Now().After(end) {
			t.Fatal("not within 20 s")
		}
		r.service.Hurry("s")
		<-time.After(2 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestABackfillGoesOnWhereItWasInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	r := newRig(t, path)
	r.provider.set(errors.New("the last page cannot be read"), ids(0, 22)...)
	state := func(r *rig) *reconcilerv1.Backfill {
		res, _ := r.service.GetBackfill(t.Context(), &reconcilerv1.GetBackfillRequest{Source: "s"})
		return res.GetBackfill()
	}
	run(t, r, func() bool { return state(r).GetRead() == 20 && state(r).GetError() != "" })
	_ = r.store.Close()

	again := newRig(t, path)
	defer func() { _ = again.store.Close() }()
	again.provider.set(nil, ids(0, 22)...)
	run(t, again, func() bool { return state(again).GetState() == reconcilerv1.BackfillState_BACKFILL_STATE_DONE })
	if first, second := len(r.kept.all()), len(again.kept.all()); first != 20 || second != 2 {
		t.Errorf("%d changes before the restart, %d after it", first, second)
	}
	if cursor, at, err := again.store.Cursor(t.Context(), "s"); err != nil || cursor != "22" || at.IsZero() {
		t.Errorf("polls go on at %q (%s, %v)", cursor, at, err)
	}
	if _, err := again.service.StartBackfill(t.Context(), &reconcilerv1.StartBackfillRequest{Source: "s", Count: true}); err != nil {
		t.Fatal(err)
	}
	run(t, again, func() bool {
		b := state(again)
		return b.GetState() == reconcilerv1.BackfillState_BACKFILL_STATE_DONE && b.GetRead() == 22
	})
	if n := len(again.kept.all()); n != 24 {
		t.Errorf("%d changes after a backfill by hand", n)
	}
}

// A crash between the two must repeat a page, not leave it out.
func TestABackfillIsKeptNoFartherThanWhatIsInTheLog(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.provider.set(nil, ids(0, 22)...)
	pages := 0
	r.kept.before = func(produced int) {
		res, err := r.service.GetBackfill(t.Context(), &reconcilerv1.GetBackfillRequest{Source: "s"})
		at := 0
		_, _ = fmt.Sscan(res.GetBackfill().GetCursor(), &at)
		if pages++; err != nil && status.Code(err) != codes.NotFound || at > produced { // at the first page nothing is kept yet
			t.Errorf("the backfill is kept at %d when %d changes are in the log (%v)", at, produced, err)
		}
	}
	run(t, r, func() bool { return len(r.kept.all()) == 22 })
	if pages != 6 {
		t.Errorf("%d pages", pages)
	}
}

// An instance that was killed has given nothing back. When it starts again it goes on at once, not when its leases end.
func TestAKilledInstanceTakesItsOwnLeasesUpAgain(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	r.provider.set(nil, ids(0, 3)...)
	for _, lease := range []string{"instance/me", "source/s"} {
		if ok, err := r.store.AcquireLease(t.Context(), lease, "me", time.Now(), time.Now().Add(time.Hour)); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	run(t, r, func() bool { return len(r.kept.all()) == 3 })
}

func TestALeaseHasOneHolderUntilItEnds(t *testing.T) {
	r := newRig(t, filepath.Join(t.TempDir(), "r.db"))
	defer func() { _ = r.store.Close() }()
	now := time.Now()
	for i, tt := range []struct {
		owner string
		after time.Duration
		want  bool
	}{{"a", 0, true}, {"b", 5 * time.Second, false}, {"a", 9 * time.Second, true}, {"b", 15 * time.Second, false}, {"b", 20 * time.Second, true}, {"a", 21 * time.Second, false}} {
		at := now.Add(tt.after)
		if ok, err := r.store.AcquireLease(t.Context(), "l", tt.owner, at, at.Add(10*time.Second)); err != nil || ok != tt.want {
			t.Errorf("step %d: %v, %v", i, ok, err)
		}
	}
	if err := r.store.ReleaseLease(t.Context(), "l", "a"); err != nil {
		t.Error(err)
	}
	if l, err := r.store.Leases(t.Context(), now.Add(22*time.Second)); err != nil || len(l) != 1 || l[0].Owner != "b" {
		t.Errorf("%v, %v", l, err)
	}
}

// slow is a list whose answer is on its way for a minute.
type slow struct{ now time.Time }

func (l *slow) List(context.Context, string) (connector.Page, error) {
	l.now = l.now.Add(time.Minute)
	return connector.Page{Changes: []connector.Change{{DocumentID: "d", Version: "1"}}, Next: "end"}, nil
}

// While an answer is on its way the source goes on changing: what a poll tells is no newer than its question.
func TestWhatAPollTellsIsAsOldAsItsQuestion(t *testing.T) {
	store, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "r.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	list, k, asked := &slow{now: epoch}, &kept{}, epoch
	src := reconciler.Source{Source: config.Source{Name: "s"}, Connector: connector.Connector{Lister: list}}
	s, err := reconciler.New(reconciler.Deps{Store: store, Producer: k, Telemetry: telemetry.Nop(), Now: func() time.Time { return list.now }}, reconciler.Config{}, []reconciler.Source{src})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PollSource(t.Context(), &reconcilerv1.PollSourceRequest{Source: "s"}); err != nil {
		t.Fatal(err)
	}
	if all := k.all(); len(all) != 1 || !all[0].GetReceivedAt().AsTime().Equal(asked) {
		t.Errorf("asked at %s, told %v", asked, all)
	}
	asked = list.now
	if err := s.Fill(t.Context(), "s"); err != nil { // so does a backfill
		t.Fatal(err)
	}
	if all := k.all(); len(all) != 2 || !all[1].GetReceivedAt().AsTime().Equal(asked) {
		t.Errorf("asked at %s, told %v", asked, all)
	}
}
