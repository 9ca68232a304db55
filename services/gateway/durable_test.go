package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

func documents(t *testing.T, outputs []stage.Output) (ids []string) {
	t.Helper()
	for _, o := range outputs {
		ids = append(ids, decode(t, &eventv1.Event{}, o).GetDocumentId())
	}
	return ids
}

func TestWhileKafkaIsAwayTheSpoolTakesEventsAndGivesThemBackInOrder(t *testing.T) {
	for _, durability := range []gateway.Durability{gateway.DurabilityBroker, gateway.DurabilitySpool} {
		t.Run(string(durability), func(t *testing.T) {
			r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.Durability = durability })
			r.kafka.setDown(true)
			var want []string
			for i := range 30 {
				if i == 20 {
					r.kafka.setDown(false) // what comes now goes behind what waits
				}
				want = append(want, fmt.Sprint("page-", i))
				if w := r.post("/webhooks/docs", want[i]); w.Code != http.StatusAccepted {
					t.Fatalf("%d %s", w.Code, w.Body)
				}
			}
			got := documents(t, r.kafka.await(t, kafka.TopicAccepted, 30))
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("came as %v", got)
			}
		})
	}
}

func TestWhatWasSpooledSurvivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	at := func(_ *gateway.Deps, c *gateway.Config) { c.SpoolDir = dir }
	r := start(t, at)
	r.kafka.setDown(true)
	for i := range 10 {
		if w := r.post("/webhooks/docs", fmt.Sprint("page-", i)); w.Code != http.StatusAccepted {
			t.Fatal(w.Code)
		}
	}
	r.stop()
	if w := r.post("/webhooks/docs", "late"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a stopped gateway answers %d", w.Code)
	}
	next := start(t, at)
	if got := documents(t, next.kafka.await(t, kafka.TopicAccepted, 10)); got[0] != "page-0" || got[9] != "page-9" {
		t.Errorf("came as %v", got)
	}
}

func TestAnEventIsKnownWhileItIsInTheSpoolAndOnItsWay(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(d *gateway.Deps, c *gateway.Config) {
		c.SpoolDir, d.Now = dir, func() time.Time { return now }
		d.Telemetry.TracerProvider = sdktrace.NewTracerProvider()
	}
	r := start(t, at)
	r.kafka.setDown(true)
	w := r.post("/webhooks/docs", "page")
	id := parse(t, w.Body.Bytes()).Events[0].ID
	known := func(r *rig, part string) {
		t.Helper()
		w := r.do(httptest.NewRequest(http.MethodGet, "/v1/events/"+id, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"accepted"`) || !strings.Contains(w.Body.String(), part) || strings.Contains(w.Body.String(), `"traceId":""`) {
			t.Errorf("%d %s, want one that is accepted and %q", w.Code, w.Body, part)
		}
	}
	known(r, "Kafka does not have it yet")
	r.stop()
	next := start(t, at) // what was there before a restart is known as well
	next.kafka.await(t, kafka.TopicAccepted, 1)
	eventually(t, func() bool {
		return strings.Contains(next.do(httptest.NewRequest(http.MethodGet, "/v1/events/"+id, nil)).Body.String(), "on its way to dedupe")
	})
	known(next, "on its way to dedupe")
	if w := next.do(httptest.NewRequest(http.MethodGet, "/v1/events/"+strings.Replace(id, id[:8], "00000000", 1), nil)); w.Code != http.StatusNotFound {
		t.Errorf("an unknown event: %d", w.Code)
	}
	next.stop()
	now = now.Add(time.Hour) // dedupe would have known it for long
	if w := start(t, at).do(httptest.NewRequest(http.MethodGet, "/v1/events/"+id, nil)); w.Code != http.StatusNotFound {
		t.Errorf("an event that dedupe has forgotten: %d %s", w.Code, w.Body)
	}
}

func TestACrashBetweenProduceAndAcknowledgementRepeatsEventsUnderTheirIDs(t *testing.T) {
	dir := t.TempDir()
	at := func(_ *gateway.Deps, c *gateway.Config) { c.SpoolDir = dir }
	r := start(t, at)
	// Kafka has the records, but the answer is lost until the process ends.
	r.kafka.mu.Lock()
	r.kafka.fail = func([]stage.Output) error { return errors.New("connection reset") }
	r.kafka.mu.Unlock()
	id := parse(t, r.post("/webhooks/docs", "page").Body.Bytes()).Events[0].ID
	eventually(t, func() bool { return len(r.kafka.of(kafka.TopicAccepted)) > 0 })
	r.stop()
	next := start(t, at)
	again := decode(t, &eventv1.Event{}, next.kafka.await(t, kafka.TopicAccepted, 1)[0])
	if again.GetId() != id {
		t.Errorf("%s came again as %s", id, again.GetId())
	}
}

// eventually waits for something that another goroutine brings about.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("it never happened")
		case <-tick.C:
		}
	}
}

func TestWhenNothingCanTakeAnEventTheSenderIsSentAwayAndTheDebtIsKept(t *testing.T) {
	r := start(t, func(_ *gateway.Deps, c *gateway.Config) {
		c.MaxBodyBytes, c.MaxRecordBytes, c.SpoolBytes = 64<<10, 2<<20, 2<<20
	})
	r.kafka.setDown(true)
	large := string(make([]byte, 60<<10))
	r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		e := event("page")
		e.Payload = req.GetBody()
		return accepted(e), nil
	})
	accepted, code := 0, 0
	for code != http.StatusServiceUnavailable {
		w := r.post("/webhooks/docs", large)
		if code = w.Code; code == http.StatusAccepted && accepted < 1000 {
			accepted++
		} else if parse(t, w.Body.Bytes()).Code != "STORAGE_UNAVAILABLE" || w.Header().Get("Retry-After") == "" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if accepted == 0 {
		t.Error("the spool took nothing")
	}
	r.kafka.setDown(false)
	if got := r.kafka.await(t, kafka.TopicAccepted, accepted); len(got) != accepted {
		t.Errorf("%d events of %d", len(got), accepted)
	}
	d := decode(t, &eventv1.Debt{}, r.kafka.await(t, kafka.TopicDebts, 1)[0])
	if d.GetSource() != "docs" || d.GetReason() != "SPOOL_FULL" || d.GetDocumentId() != "page" || d.GetIncurredAt() == nil {
		t.Errorf("%v", d)
	}
}

func TestADrainedSpoolTakesTheLargestDeliveryThatItHasRoomFor(t *testing.T) {
	r := start(t, func(_ *gateway.Deps, c *gateway.Config) {
		c.MaxBodyBytes, c.MaxRecordBytes, c.SpoolBytes, c.Durability = 1<<20, 2<<20, 2<<20, gateway.DurabilitySpool
	})
	r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		e := event("page")
		e.Payload = req.GetBody()
		return accepted(e), nil
	})
	large := string(make([]byte, 1<<20))
	for range 4 {
		// What is in Kafka is acknowledged in the spool a moment later.
		eventually(t, func() bool { return r.post("/webhooks/docs", large).Code == http.StatusAccepted })
	}
}

func TestAFloodIsShedAndBecomesAboutOneDebtPerSecond(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := start(t, func(d *gateway.Deps, c *gateway.Config) {
		d.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		c.Sources = []gateway.Source{{Name: "docs", PerSecond: 2, Burst: 5}, {Name: "calm"}}
	})
	shed := 0
	for range 500 {
		w := r.post("/webhooks/docs", "page")
		if w.Code == http.StatusAccepted {
			continue
		}
		shed++
		if w.Code != http.StatusTooManyRequests || parse(t, w.Body.Bytes()).Code != "RATE_LIMITED" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		checkHeaders(t, w.Result().Header, map[string]string{"Retry-After": "1..5", "RateLimit-Policy": `"source";q=5;w=3`, "RateLimit": `"source";r=0;t=1`})
	}
	if shed != 495 {
		t.Errorf("%d were shed of 500, with a burst of 5", shed)
	}
	if w := r.post("/webhooks/calm", "page"); w.Code != http.StatusAccepted {
		t.Errorf("another source suffers: %d", w.Code)
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusAccepted {
		t.Errorf("after a second: %d", w.Code)
	}
	d := decode(t, &eventv1.Debt{}, r.kafka.await(t, kafka.TopicDebts, 1)[0])
	if d.GetSource() != "docs" || d.GetReason() != "SHED" {
		t.Errorf("%v", d)
	}
	r.stop()
	if n := len(r.kafka.of(kafka.TopicDebts)); n > 5 {
		t.Errorf("%d debts for one flood", n)
	}
}

func TestAStaleButAuthenticDeliveryIsADebtOfItsDocument(t *testing.T) {
	r := start(t)
	stale := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: "TIMESTAMP_STALE", Debt: true, Events: []*eventv1.Event{event("page-9")}}
	r.verifier.set(verdict(stale))
	if w := r.post("/webhooks/docs", "x"); w.Code != http.StatusForbidden || parse(t, w.Body.Bytes()).Code != "TIMESTAMP_STALE" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	d := decode(t, &eventv1.Debt{}, r.kafka.await(t, kafka.TopicDebts, 1)[0])
	if d.GetReason() != "STALE" || d.GetDocumentId() != "page-9" {
		t.Errorf("%v", d)
	}
}

func TestAStaleBatchIsADebtOfEachOfItsDocuments(t *testing.T) {
	r := start(t)
	stale := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: "TIMESTAMP_STALE", Debt: true, Events: []*eventv1.Event{event("a"), event("b"), event("a")}}
	r.verifier.set(verdict(stale))
	r.post("/webhooks/docs", "x")
	owed := map[string]int{}
	for _, out := range r.kafka.await(t, kafka.TopicDebts, 2) {
		owed[decode(t, &eventv1.Debt{}, out).GetDocumentId()]++
	}
	if len(owed) != 2 || owed["a"] != 1 || owed["b"] != 1 {
		t.Errorf("owed are %v", owed)
	}
}

func TestMoreDeliveriesAtOnceThanAllowedAreShed(t *testing.T) {
	r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.MaxInFlight = 1 })
	entered, leave := make(chan struct{}), make(chan struct{})
	r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		close(entered)
		<-leave
		return acceptAll(req)
	})
	first := make(chan int)
	go func() { first <- r.post("/webhooks/docs", "page").Code }()
	<-entered
	if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusTooManyRequests || parse(t, w.Body.Bytes()).Code != "OVERLOADED" {
		t.Errorf("%d %s", w.Code, w.Body)
	} else {
		checkHeaders(t, w.Result().Header, map[string]string{"Retry-After": "1..5", "RateLimit-Policy": `"in-flight";q=1;qu="concurrent-requests"`, "RateLimit": `"in-flight";r=0;t=1`})
	}
	close(leave)
	if code := <-first; code != http.StatusAccepted {
		t.Errorf("the first got %d", code)
	}
}

func TestASenderThatHangsUpDoesNotUndoItsEvent(t *testing.T) {
	r := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/webhooks/docs", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.verifier.set(func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		cancel()
		return accepted(event("page")), nil
	})
	r.do(req)
	r.kafka.await(t, kafka.TopicAccepted, 1)
}

func TestASilentVerifierIsWaitedForOnlyAsLongAsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(d *gateway.Deps, c *gateway.Config) {
			d.Verifier, c.VerifyTimeout = silentVerifier{d.Verifier}, 2*time.Second
		})
		begin := time.Now()
		if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("after %s", took)
		}
		r.stop()
	})
}
