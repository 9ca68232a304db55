package telemetry

import (
	"context"
	"slices"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Span is a finished span, as kept for people.
type Span struct {
	TraceID    string            `json:"traceId"`
	SpanID     string            `json:"spanId"`
	ParentID   string            `json:"parentId,omitempty"`
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	Start      time.Time         `json:"start"`
	End        time.Time         `json:"end"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Events     []SpanEvent       `json:"events,omitempty"`
	Links      []string          `json:"links,omitempty"`
	Error      string            `json:"error,omitempty"`
}

// SpanEvent is something that happened during a span.
type SpanEvent struct {
	Name       string            `json:"name"`
	Time       time.Time         `json:"time"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// SpanBuffer keeps the last finished spans in memory, so that one machine can be looked into without a tracing backend.
// It is a ring: the oldest span makes room for the newest. Safe for concurrent use.
type SpanBuffer struct {
	mu    sync.Mutex
	ring  []sdktrace.ReadOnlySpan
	next  int
	trace map[trace.TraceID][]int
}

// NewSpanBuffer returns a buffer for size spans.
func NewSpanBuffer(size int) *SpanBuffer {
	return &SpanBuffer{ring: make([]sdktrace.ReadOnlySpan, max(size, 1)), trace: map[trace.TraceID][]int{}}
}

// OnStart implements sdktrace.SpanProcessor.
func (*SpanBuffer) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (b *SpanBuffer) OnEnd(s sdktrace.ReadOnlySpan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.ring[b.next]; old != nil {
		b.forget(old.SpanContext().TraceID(), b.next)
	}
	b.ring[b.next] = s
	id := s.SpanContext().TraceID()
	b.trace[id] = append(b.trace[id], b.next)
	b.next = (b.next + 1) % len(b.ring)
}

// forget removes a place of the ring from its trace. It is the trace's oldest, so it stands first.
func (b *SpanBuffer) forget(id trace.TraceID, place int) {
	places := slices.DeleteFunc(b.trace[id], func(p int) bool { return p == place })
	if len(places) == 0 {
		delete(b.trace, id)
		return
	}
	b.trace[id] = places
}

// Shutdown implements sdktrace.SpanProcessor.
func (*SpanBuffer) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (*SpanBuffer) ForceFlush(context.Context) error { return nil }

// Trace returns the spans of a trace (32 hexadecimal digits) that are still kept, by their start.
func (b *SpanBuffer) Trace(id string) []Span {
	traceID, err := trace.TraceIDFromHex(id)
	if err != nil {
		return nil
	}
	b.mu.Lock()
	kept := make([]sdktrace.ReadOnlySpan, 0, len(b.trace[traceID]))
	for _, place := range b.trace[traceID] {
		kept = append(kept, b.ring[place])
	}
	b.mu.Unlock()
	spans := make([]Span, len(kept))
	for i, s := range kept {
		spans[i] = describe(s)
	}
	slices.SortStableFunc(spans, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return spans
}

func describe(s sdktrace.ReadOnlySpan) Span {
	d := Span{
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(), Name: s.Name(),
		Kind: s.SpanKind().String(), Start: s.StartTime(), End: s.EndTime(), Attributes: map[string]string{}, Error: s.Status().Description,
	}
	if s.Parent().SpanID().IsValid() {
		d.ParentID = s.Parent().SpanID().String()
	}
	for _, a := range s.Attributes() {
		d.Attributes[string(a.Key)] = a.Value.String()
	}
	for _, e := range s.Events() {
		ev := SpanEvent{Name: e.Name, Time: e.Time, Attributes: map[string]string{}}
		for _, a := range e.Attributes {
			ev.Attributes[string(a.Key)] = a.Value.String()
		}
		d.Events = append(d.Events, ev)
	}
	for _, l := range s.Links() {
		d.Links = append(d.Links, l.SpanContext.TraceID().String())
	}
	return d
}
