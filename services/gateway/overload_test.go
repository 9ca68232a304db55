package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
)

func TestReplicasShareTheRateOfASource(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	accepted := 0
	for range 3 {
		r := start(t, func(d *gateway.Deps, c *gateway.Config) {
			d.Now = func() time.Time { return now }
			c.Sources, c.Replicas = []gateway.Source{{Name: "docs", PerSecond: 1, Burst: 30}}, 3
		})
		for i := range 30 {
			w := r.post("/webhooks/docs", fmt.Sprint("page-", i))
			if w.Code == http.StatusAccepted {
				accepted++
			} else {
				checkHeaders(t, w.Result().Header, map[string]string{"RateLimit-Policy": `"source";q=10;w=30`, "RateLimit": `"source";r=0;t=3`})
			}
		}
	}
	if accepted != 30 {
		t.Errorf("three gateways let %d through at once, the source may send 30", accepted)
	}
}

// slowClock is a clock that the verifier moves.
type slowClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *slowClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *slowClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestWhenDeliveriesTakeTooLongFewerAreLetInUntilTheyAreQuickAgain(t *testing.T) {
	clock := &slowClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	reader := sdkmetric.NewManualReader()
	r := start(t, func(d *gateway.Deps, c *gateway.Config) {
		d.Now, c.MaxInFlight = clock.read, 100
		d.Telemetry.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	// send sends deliveries one after the other, each of which takes so long.
	send := func(n int, took time.Duration) {
		r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
			clock.add(took)
			return acceptAll(req)
		})
		for i := range n {
			if w := r.post("/webhooks/docs", fmt.Sprint("page-", i)); w.Code != http.StatusAccepted {
				t.Fatalf("one delivery after the other is never too much: %d", w.Code)
			}
		}
	}
	if places := gauge(t, reader, "hookmesh.gateway.in_flight.limit"); places != 100 {
		t.Errorf("%d may be in work at first, want 100", places)
	}
	send(50, 3*time.Second)
	if places := gauge(t, reader, "hookmesh.gateway.in_flight.limit"); places != 16 {
		t.Errorf("%d may be in work when each takes 3 s, want 16", places)
	}
	// Now more come at once than are let in: those that are let in are quick.
	r.verifier.set(acceptAll)
	gate := make(chan struct{})
	r.verifier.hold(gate)
	var wg sync.WaitGroup
	codes := make(chan int, 32)
	for i := range cap(codes) {
		wg.Go(func() { codes <- r.post("/webhooks/docs", fmt.Sprint("crowd-", i)).Code })
	}
	for range cap(codes) - 16 {
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Errorf("%d over the limit", code)
		}
	}
	close(gate)
	wg.Wait()
	for range 16 {
		if code := <-codes; code != http.StatusAccepted {
			t.Errorf("%d within the limit", code)
		}
	}
}

func gauge(t *testing.T, reader *sdkmetric.ManualReader, name string) int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == name {
				return data.DataPoints[0].Value
			}
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
