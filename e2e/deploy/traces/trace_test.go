//go:build kafka

package traces_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

func TestOneEventIsOneTraceOverAllProcesses(t *testing.T) {
	collector := startReceiver(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	m, err := topology.Start(ctx, topology.Options{Dir: t.TempDir(), Binary: mesh.Binary(t), Partitions: 1, Env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_BSP_SCHEDULE_DELAY=200", "OTEL_BLRP_SCHEDULE_DELAY=200", "OTEL_METRIC_EXPORT_INTERVAL=1000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	changes, final := topology.Plan(rand.New(rand.NewPCG(1, 1)), 60, 60, 1)
	report := topology.Send(ctx, m.Edge.Client(16), m.Edge.URL, changes, 16, topology.Mischief{}, 1)
	followed := ""
	until(ctx, t, func() error {
		err := fmt.Errorf("no document's last change was accepted: %v", report.Answers)
		for _, p := range report.Promises {
			// An earlier change of a document may be superseded before it reaches the knowledge base. Deliveries that were verified
			// together share the verifier's span: it stands in the trace of one of them, and the others link to it.
			if p.Change != final[p.Change.DocumentID] || p.Change.Action == "deleted" {
				continue
			}
			if err = whole(collector.find("hookmesh.event.id", p.EventID)); err == nil {
				followed = p.EventID
				return nil
			}
		}
		return err
	})
	checkConventions(t, collector.find("hookmesh.event.id", followed))
	until(ctx, t, func() error {
		if len(collector.batches()) == 0 {
			return errors.New("no batch has links to its events")
		}
		return nil
	})
	until(ctx, t, func() error {
		collector.mu.Lock()
		defer collector.mu.Unlock()
		for _, name := range []string{"hookmesh.freshness", "hookmesh.kafka.lag", "hookmesh.gateway.requests", "rpc.server.call.duration"} {
			if !collector.metrics[name] {
				return fmt.Errorf("metric %s was not exported", name)
			}
		}
		for _, service := range topology.Services() {
			if !collector.loggers["hookmesh-"+service] {
				return fmt.Errorf("%s exported no log line", service)
			}
		}
		return nil
	})
}

func until(ctx context.Context, t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// whole wants one tree: one root, every other span below one that is there, from the gateway to the knowledge base.
func whole(spans []span) error {
	ids, services, roots := map[string]bool{}, map[string]bool{}, 0
	for _, s := range spans {
		ids[string(s.GetSpanId())] = true
		services[s.service] = true
	}
	for _, s := range spans {
		if len(s.GetParentSpanId()) == 0 {
			roots++
		} else if !ids[string(s.GetParentSpanId())] {
			return fmt.Errorf("%s of %s has a parent that is not there", s.GetName(), s.service)
		}
	}
	if roots != 1 {
		return fmt.Errorf("%d roots in %d spans", roots, len(spans))
	}
	for _, service := range []string{"gateway", "verifier", "dedupe", "sequencer", "embedder"} {
		if !services["hookmesh-"+service] {
			return fmt.Errorf("%s has no span in the trace; there are %v", service, services)
		}
	}
	if !slices.ContainsFunc(spans, func(s span) bool { return s.GetName() == "store" && s.service == "hookmesh-embedder" }) {
		return errors.New("the trace does not reach the knowledge base")
	}
	return nil
}

// checkConventions looks for OpenTelemetry's messaging and RPC conventions, and for what traces are searched by.
func checkConventions(t *testing.T, spans []span) {
	t.Helper()
	for name, kind := range map[string]v1.Span_SpanKind{
		"send hookmesh.events.accepted": v1.Span_SPAN_KIND_PRODUCER, "process hookmesh.events.accepted": v1.Span_SPAN_KIND_CONSUMER,
		"process hookmesh.events.unique": v1.Span_SPAN_KIND_CONSUMER, "process hookmesh.documents.changed": v1.Span_SPAN_KIND_CONSUMER,
	} {
		i := slices.IndexFunc(spans, func(s span) bool { return s.GetName() == name })
		if i < 0 {
			t.Errorf("no span %q", name)
			continue
		}
		s := spans[i]
		if s.GetKind() != kind || s.attributes["messaging.system"] != "kafka" || s.attributes["messaging.destination.name"] == "" || s.attributes["messaging.operation.name"] == "" {
			t.Errorf("%s: kind %s, %v", name, s.GetKind(), s.attributes)
		}
		if kind == v1.Span_SPAN_KIND_CONSUMER && (s.attributes["messaging.consumer.group.name"] == "" || s.attributes["hookmesh.document.key_hash"] == "") {
			t.Errorf("%s: %v", name, s.attributes)
		}
	}
	if !slices.ContainsFunc(spans, func(s span) bool {
		return s.GetKind() == v1.Span_SPAN_KIND_SERVER && s.service == "hookmesh-verifier" && strings.Contains(s.attributes["rpc.method"], "Verify")
	}) {
		t.Error("no RPC span of the verifier with rpc.method")
	}
	for _, key := range []string{"hookmesh.source", "hookmesh.preset", "hookmesh.outcome"} {
		if !slices.ContainsFunc(spans, func(s span) bool { return s.attributes[key] != "" }) {
			t.Errorf("no span has %s", key)
		}
	}
}
