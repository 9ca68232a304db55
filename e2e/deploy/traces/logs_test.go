//go:build kafka && jaeger

package traces_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// line is a log record with the labels by which Loki finds it.
type line struct {
	text   string
	labels map[string]string
}

// lines takes logs over OTLP where the collector expects Loki, and keeps of them what Loki documents that it keeps
// (https://grafana.com/docs/loki/latest/send-data/otel/): service.name, attributes, trace_id and span_id as labels, with _ for every other sign.
type lines struct {
	*httptest.Server
	mu  sync.Mutex
	all []line
}

func startLines(t *testing.T) *lines {
	l := &lines{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /otlp/v1/logs", func(w http.ResponseWriter, req *http.Request) {
		msg := &logspb.ExportLogsServiceRequest{}
		if take(w, req, msg) {
			l.keep(msg)
		}
	})
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	return l
}

var unnamed = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func (l *lines) keep(msg *logspb.ExportLogsServiceRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rl := range msg.GetResourceLogs() {
		for _, scope := range rl.GetScopeLogs() {
			for _, r := range scope.GetLogRecords() {
				labels := map[string]string{}
				for _, list := range [][]*commonpb.KeyValue{rl.GetResource().GetAttributes(), r.GetAttributes()} {
					for _, kv := range list {
						labels[unnamed.ReplaceAllString(kv.GetKey(), "_")] = textOf(kv.GetValue())
					}
				}
				if len(r.GetTraceId()) > 0 {
					labels["trace_id"], labels["span_id"] = hex.EncodeToString(r.GetTraceId()), hex.EncodeToString(r.GetSpanId())
				}
				l.all = append(l.all, line{r.GetBody().GetStringValue(), labels})
			}
		}
	}
}

func textOf(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *commonpb.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	}
	return v.String()
}

var query = regexp.MustCompile(`^\{service_name=~"\.\+"\} \| (\w+)="([^"]*)"$`)

// find answers a query of the one form that people are told to use.
func (l *lines) find(t *testing.T, text string) (found []line) {
	t.Helper()
	part := query.FindStringSubmatch(text)
	if part == nil {
		t.Fatalf("the query %q has another form than those that are known here", text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.all {
		if one.labels["service_name"] != "" && one.labels[part[1]] == part[2] {
			found = append(found, one)
		}
	}
	return found
}

// Logs go from the program through the collector with its deployed file to where Loki takes them, and the queries of docs/operations.md and of
// Grafana's link from a trace to its lines name labels that they have. Loki itself does not take part.
func TestLogsReachLokiWithWhatTheyAreAskedBy(t *testing.T) {
	loki := startLines(t)
	collector := startCollector(t, "jaeger:4317", loki.URL+"/otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://"+collector+"/v1/logs")
	t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "200")
	m := mesh.Start(t, "")

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/webhooks/docs", strings.NewReader(`{"document_id":"d"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Signature", "sha256=forged")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	trace := res.Header.Get("X-Request-Id")
	if res.StatusCode != http.StatusForbidden || len(trace) != 32 {
		t.Fatalf("a forged delivery got %s with the id %q", res.Status, trace)
	}
	res, err = http.Post(m.HTTP+"/v1/sources/docs:poll", "application/json", strings.NewReader(`{}`)) // a change, whatever becomes of it
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()

	for what, ask := range map[string]struct{ query, holds string }{
		"Grafana's link from a trace": {strings.Replace(queryIn(t, "deploy/grafana/provisioning/datasources/datasources.yaml", "trace_id"), "$${__trace.traceId}", trace, 1), "a delivery was refused"},
		"the runbook's by trace":      {strings.Replace(queryIn(t, "docs/operations.md", "trace_id"), "TRACE", trace, 1), "a delivery was refused"},
		"the runbook's by source":     {strings.Replace(queryIn(t, "docs/operations.md", "source"), "SOURCE", "docs", 1), "a delivery was refused"},
		"who did what":                {queryIn(t, "docs/operations.md", "audit"), ""},
	} {
		until(t.Context(), t, func() error {
			found := loki.find(t, ask.query)
			for _, one := range found {
				if strings.Contains(one.text, ask.holds) {
					return nil
				}
			}
			return errors.Join(fmt.Errorf("%s, %s, finds %v", what, ask.query, found))
		})
	}
}

// queryIn is the query by a label that a file tells people to use.
func queryIn(t *testing.T, file, label string) string {
	t.Helper()
	raw, err := os.ReadFile("../../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\{service_name=~"\.\+"\} \| ` + label + `="[^"]*"`).FindString(string(raw))
	if found == "" {
		t.Fatalf("%s has no query by %s", file, label)
	}
	return found
}
