//go:build kafka

// Package traces_test looks at what the separate processes of the mesh report over OTLP.
package traces_test

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// span is a span with the process that reported it.
type span struct {
	service string
	*spanpb.Span
	attributes map[string]string
}

// receiver is an OTLP collector that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	traces  map[string][]span
	metrics map[string]bool
	loggers map[string]bool
}

func startReceiver(t *testing.T) *receiver {
	r := &receiver{traces: map[string][]span{}, metrics: map[string]bool{}, loggers: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, req *http.Request) {
		msg := &tracepb.ExportTraceServiceRequest{}
		if take(w, req, msg) {
			r.keepTraces(msg)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, req *http.Request) {
		msg := &metricspb.ExportMetricsServiceRequest{}
		if take(w, req, msg) {
			r.keepMetrics(msg)
		}
	})
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, req *http.Request) {
		msg := &logspb.ExportLogsServiceRequest{}
		if take(w, req, msg) {
			r.keepLogs(msg)
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func take(w http.ResponseWriter, req *http.Request, into proto.Message) bool {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return false
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	if err == nil {
		err = proto.Unmarshal(raw, into)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	return true
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		m[kv.GetKey()] = kv.GetValue().GetStringValue()
	}
	return m
}

func (r *receiver) keepTraces(msg *tracepb.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range msg.GetResourceSpans() {
		service := attributes(rs.GetResource().GetAttributes())["service.name"]
		for _, scope := range rs.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				id := hex.EncodeToString(s.GetTraceId())
				r.traces[id] = append(r.traces[id], span{service, s, attributes(s.GetAttributes())})
			}
		}
	}
}

func (r *receiver) keepMetrics(msg *metricspb.ExportMetricsServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range msg.GetResourceMetrics() {
		for _, scope := range rm.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				r.metrics[m.GetName()] = true
			}
		}
	}
}

func (r *receiver) keepLogs(msg *logspb.ExportLogsServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rl := range msg.GetResourceLogs() {
		r.loggers[attributes(rl.GetResource().GetAttributes())["service.name"]] = true
	}
}

// find returns the spans of the trace that has a span with an attribute of this value.
func (r *receiver) find(key, value string) []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, spans := range r.traces {
		for _, s := range spans {
			if s.attributes[key] == value {
				return append([]span(nil), spans...)
			}
		}
	}
	return nil
}

// batches returns all spans with more than one link.
func (r *receiver) batches() (found []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, spans := range r.traces {
		for _, s := range spans {
			if len(s.GetLinks()) > 1 {
				found = append(found, s)
			}
		}
	}
	return found
}
