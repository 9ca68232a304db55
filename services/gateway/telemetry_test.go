package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

func traced(spans *tracetest.SpanRecorder, more ...option) option {
	return func(d *gateway.Deps, c *gateway.Config) {
		d.Telemetry.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		for _, o := range more {
			o(d, c)
		}
	}
}

const outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestAnEventIsOneTraceFromTheRequestToKafka(t *testing.T) {
	for _, durability := range []gateway.Durability{gateway.DurabilityBroker, gateway.DurabilitySpool} {
		t.Run(string(durability), func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			r := start(t, traced(spans, func(_ *gateway.Deps, c *gateway.Config) { c.Durability = durability }))
			r.post("/webhooks/docs?token=s3cret", "page", "Traceparent: "+outside)
			out := r.kafka.await(t, kafka.TopicAccepted, 1)[0]
			event := trace.SpanContextFromContext(out.Context)
			names := map[string]sdktrace.ReadOnlySpan{}
			for _, s := range spans.Ended() {
				if s.SpanContext().TraceID() != event.TraceID() {
					t.Errorf("%s is in another trace", s.Name())
				}
				names[s.Name()] = s
				for _, a := range s.Attributes() {
					if strings.Contains(a.Value.String(), "s3cret") {
						t.Errorf("%s tells the token: %s", s.Name(), a.Key)
					}
				}
			}
			for _, name := range []string{"POST /webhooks/{source}", "verify", "dedupe check", "durable write", "accept event"} {
				if names[name] == nil {
					t.Errorf("no span %q", name)
				}
			}
			if names["accept event"].SpanContext().SpanID() != event.SpanID() {
				t.Error("the record's context is not the event's span")
			}
			root := names["POST /webhooks/{source}"]
			if event.TraceID().String() == outside[3:35] || len(root.Links()) != 1 || root.Links()[0].SpanContext.TraceID().String() != outside[3:35] {
				t.Error("a stranger's trace must be linked, not joined")
			}
			if durability == gateway.DurabilitySpool {
				if got := (stage.Carrier{Headers: &out.Headers}).Get("traceparent"); !strings.Contains(got, event.TraceID().String()) {
					t.Errorf("the spool kept traceparent %q", got)
				}
			}
		})
	}
}

func TestATrustedTraceIsContinued(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	r := start(t, traced(spans, func(_ *gateway.Deps, c *gateway.Config) { c.TrustTraceparent = true }))
	r.post("/webhooks/docs", "page", "Traceparent: "+outside)
	if got := spans.Ended()[0].SpanContext().TraceID().String(); got != outside[3:35] {
		t.Errorf("trace %s", got)
	}
}

func TestRequestsAreCountedBySourceAndOutcome(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	r := start(t, func(d *gateway.Deps, c *gateway.Config) {
		d.Telemetry.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		c.Sources = append(c.Sources, gateway.Source{Name: "slow", PerSecond: 0.0001, Burst: 1})
	})
	r.kafka.setDown(true)
	for _, path := range []string{"docs", "docs", "slow", "slow", "nobody", "somebody"} {
		r.post("/webhooks/"+path, "page")
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					source, _ := p.Attributes.Value("source")
					outcome, _ := p.Attributes.Value("outcome")
					counts[strings.TrimSpace(m.Name+" "+source.AsString()+" "+outcome.AsString())] += p.Value
				}
			case metricdata.Gauge[int64]:
				counts[m.Name] = data.DataPoints[0].Value
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					counts[m.Name] += int64(p.Count)
				}
			}
		}
	}
	for name, want := range map[string]int64{
		"hookmesh.gateway.requests docs accepted":          2,
		"hookmesh.gateway.requests slow accepted":          1,
		"hookmesh.gateway.requests slow shed":              1,
		"hookmesh.gateway.requests unknown unknown_source": 2,
		"hookmesh.gateway.request.duration":                6,
		"hookmesh.gateway.sheds slow":                      1,
		"hookmesh.gateway.in_flight":                       0,
	} {
		if counts[name] != want {
			t.Errorf("%s: %d, want %d", name, counts[name], want)
		}
	}
	if counts["hookmesh.gateway.spool.records"] < 3 || counts["hookmesh.gateway.spool.bytes"] == 0 {
		t.Errorf("the spool's gauges: %v", counts)
	}
}

// panics is a producer that panics.
type panics struct{}

func (panics) Produce(context.Context, []stage.Output) error { panic("broken") }

func TestAPanicOnTheWayToKafkaLosesNothing(t *testing.T) {
	r := build(t, func(d *gateway.Deps, c *gateway.Config) {
		c.Durability = gateway.DurabilityBroker
		d.Producer = panics{}
	})
	if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusAccepted { // the spool took it
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAWrongConfigurationIsRefusedWithAllItsProblems(t *testing.T) {
	_, err := gateway.New(gateway.Deps{}, gateway.Config{
		Durability: "tape", MaxBodyBytes: 50 << 20, Sources: []gateway.Source{{Name: "a/b"}, {Name: "x"}, {Name: "x"}},
	})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{"every client", "tape", "directory", "a/b", "twice", "cannot hold a body"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in: %v", want, err)
		}
	}
}
