//go:build kafka && jaeger

package traces_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// jaegerConfig is a Jaeger that keeps traces in memory. %[1]s takes OTLP, %[2]s and %[3]s answer queries.
const jaegerConfig = `
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 100000}}}}
  jaeger_query: {storage: {traces: memory}, http: {endpoint: "%[2]s"}, grpc: {endpoint: "%[3]s"}}
receivers: {otlp: {protocols: {grpc: {endpoint: "%[1]s"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
`

// The way that traces go in production: every process sends them to the collector with the file that is deployed, the collector to Jaeger,
// and Jaeger answers. Jaeger is a collector itself, so one program is both.
func TestJaegerShowsOneEventAsOneTraceOverAllProcesses(t *testing.T) {
	jaeger := startJaeger(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	m, err := topology.Start(ctx, topology.Options{Dir: t.TempDir(), Binary: mesh.Binary(t), Partitions: 1, Env: []string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + jaeger.collector + "/v1/traces", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=" + jaeger.collector + "/v1/logs",
		"OTEL_BSP_SCHEDULE_DELAY=200", "OTEL_BLRP_SCHEDULE_DELAY=200",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	changes, final := topology.Plan(rand.New(rand.NewPCG(1, 1)), 60, 60, 1)
	report := topology.Send(ctx, m.Edge.Client(16), m.Edge.URL, changes, 16, topology.Mischief{}, 1)
	trace := ""
	until(ctx, t, func() error {
		err := fmt.Errorf("no document's last change was accepted: %v", report.Answers)
		traces, asked := jaeger.find("hookmesh-embedder")
		if asked != nil {
			return asked
		}
		for _, p := range report.Promises {
			if p.Change != final[p.Change.DocumentID] || p.Change.Action == "deleted" {
				continue
			}
			for id, spans := range traces {
				if !has(spans, "hookmesh.event.id", p.EventID) {
					continue
				}
				if err = whole(spans); err == nil {
					trace = id
					return nil
				}
			}
		}
		return err
	})
	spans, err := jaeger.get(trace)
	if err != nil {
		t.Fatal(err)
	}
	if err := whole(spans); err != nil {
		t.Error(err)
	}
	checkConventions(t, spans)
	t.Logf("trace %s: %d spans", trace, len(spans))
	for _, service := range []string{"dedupe", "sequencer", "embedder"} {
		until(ctx, t, func() error { return jaeger.batchWithLinks("hookmesh-" + service) })
	}
}

func has(spans []span, key, value string) bool {
	for _, s := range spans {
		if s.attributes[key] == value {
			return true
		}
	}
	return false
}

// jaeger is a collector and a Jaeger behind it.
type jaeger struct{ collector, query string }

func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	grpcIn, httpOut, grpcOut := freeAddress(t), freeAddress(t), freeAddress(t)
	run(t, program(t), t.TempDir(), "jaeger", fmt.Sprintf(jaegerConfig, grpcIn, httpOut, grpcOut), grpcIn, httpOut)

	return &jaeger{collector: "http://" + startCollector(t, grpcIn, "http://loki.invalid:3100/otlp"), query: "http://" + httpOut}
}

// startCollector starts one with the file that is deployed, and returns where it takes OTLP over HTTP.
func startCollector(t *testing.T, jaeger, loki string) string {
	t.Helper()
	binary := program(t)
	raw, err := os.ReadFile("../../../deploy/otel/collector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	collectorGRPC, collectorHTTP := freeAddress(t), freeAddress(t)
	// What differs from production: addresses of this machine, nothing is left out by chance, and nothing is waited for.
	file := string(raw)
	for deployed, here := range map[string]string{
		"0.0.0.0:4317": collectorGRPC, "0.0.0.0:4318": collectorHTTP, "jaeger:4317": jaeger, "http://loki:3100/otlp": loki,
		"sampling_percentage: 10": "sampling_percentage: 100", "decision_wait: 30s": "decision_wait: 1s",
	} {
		if strings.Count(file, deployed) != 1 {
			t.Fatalf("the collector's file does not hold %q once", deployed)
		}
		file = strings.Replace(file, deployed, here, 1)
	}
	run(t, binary, t.TempDir(), "collector", file, collectorHTTP)
	return collectorHTTP
}

// program is Jaeger's, which is a collector too.
func program(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("HOOKMESH_TEST_JAEGER")
	if binary == "" {
		t.Fatal("HOOKMESH_TEST_JAEGER does not name Jaeger's program: make test-jaeger builds it")
	}
	return binary
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// run starts the program with a configuration and waits until it listens.
func run(t *testing.T, binary, dir, name, config string, addresses ...string) {
	t.Helper()
	file := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config", file, "--set", "service.telemetry.metrics.level=none")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s ended: %v\n%s", name, err, out.String())
		}
	})
	for _, address := range addresses {
		until(t.Context(), t, func() error {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				return fmt.Errorf("%s does not listen: %w", name, err)
			}
			return c.Close()
		})
	}
}

// find returns the newest traces in which a service has a span.
func (j *jaeger) find(service string) (map[string][]span, error) {
	return j.ask("/api/v3/traces?" + url.Values{
		"query.service_name": {service}, "query.num_traces": {"1000"},
		"query.start_time_min": {time.Now().Add(-time.Hour).Format(time.RFC3339Nano)}, "query.start_time_max": {time.Now().Add(time.Minute).Format(time.RFC3339Nano)},
	}.Encode())
}

// get returns one trace by its id.
func (j *jaeger) get(id string) ([]span, error) {
	traces, err := j.ask("/api/v3/traces/" + id)
	if err == nil && len(traces[id]) == 0 {
		err = fmt.Errorf("Jaeger has no spans of trace %s", id)
	}
	return traces[id], err
}

// batchWithLinks wants a span of a service's batch whose links lead to traces that Jaeger has.
func (j *jaeger) batchWithLinks(service string) error {
	traces, err := j.find(service)
	if err != nil {
		return err
	}
	for _, spans := range traces {
		for _, s := range spans {
			if s.service != service || !strings.HasPrefix(s.GetName(), "receive ") || len(s.GetLinks()) < 2 {
				continue
			}
			for _, l := range s.GetLinks() {
				if _, err := j.get(string(l.GetTraceId())); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return errors.New("no batch of " + service + " has links to its events")
}

// answer is OTLP as JSON, as far as it is looked at. Ids stay the text that they are.
type answer struct {
	Result struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes []attribute }
			ScopeSpans []struct {
				Spans []struct {
					TraceID, SpanID, ParentSpanID, Name string
					Kind                                json.Number
					Attributes                          []attribute
					Links                               []struct{ TraceID, SpanID string }
				}
			}
		}
	}
}

type attribute struct {
	Key   string
	Value struct{ StringValue string }
}

func texts(list []attribute) map[string]string {
	m := map[string]string{}
	for _, a := range list {
		m[a.Key] = a.Value.StringValue
	}
	return m
}

// ask asks Jaeger's query API and returns the spans by trace.
func (j *jaeger) ask(path string) (map[string][]span, error) {
	res, err := http.Get(j.query + path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Jaeger answered %s: %s", res.Status, raw)
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("Jaeger's answer: %w", err)
	}
	traces := map[string][]span{}
	for _, rs := range a.Result.ResourceSpans {
		service := texts(rs.Resource.Attributes)["service.name"]
		for _, scope := range rs.ScopeSpans {
			for _, s := range scope.Spans {
				kind, _ := s.Kind.Int64() // absent: unspecified
				made := &v1.Span{TraceId: []byte(s.TraceID), SpanId: []byte(s.SpanID), ParentSpanId: []byte(s.ParentSpanID), Name: s.Name, Kind: v1.Span_SpanKind(kind)}
				for _, l := range s.Links {
					made.Links = append(made.Links, &v1.Span_Link{TraceId: []byte(l.TraceID), SpanId: []byte(l.SpanID)})
				}
				traces[s.TraceID] = append(traces[s.TraceID], span{service, made, texts(s.Attributes)})
			}
		}
	}
	return traces, nil
}
