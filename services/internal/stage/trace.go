package stage

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Carrier reads and writes trace context in a record's headers.
type Carrier struct{ Headers *[]Header }

// Get returns the value of a header, or "".
func (c Carrier) Get(key string) string {
	for _, h := range *c.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Set replaces a header, or adds it. The list is copied first: several records may share it.
func (c Carrier) Set(key, value string) {
	headers := make([]Header, 0, len(*c.Headers)+1)
	for _, h := range *c.Headers {
		if h.Key != key {
			headers = append(headers, h)
		}
	}
	headers = append(headers, Header{Key: key, Value: []byte(value)})
	*c.Headers = headers
}

// Keys lists the names.
func (c Carrier) Keys() []string {
	keys := make([]string, len(*c.Headers))
	for i, h := range *c.Headers {
		keys[i] = h.Key
	}
	return keys
}

// withTrace returns the headers with the trace context of ctx.
func withTrace(headers []Header, ctx context.Context) []Header {
	if ctx == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return headers
	}
	telemetry.Propagator().Inject(ctx, Carrier{&headers})
	return headers
}

// Extract returns a context that continues the trace in a record's headers.
func Extract(ctx context.Context, headers []Header) context.Context {
	return telemetry.Propagator().Extract(ctx, Carrier{&headers})
}

// startSpans gives every record the context of its trace, and a span of its own if the trace is sampled.
func (w *worker[T]) startSpans(records []Record) []trace.Span {
	var spans []trace.Span
	for i := range records {
		rec := &records[i]
		rec.Context = Extract(context.Background(), rec.Headers)
		if !trace.SpanContextFromContext(rec.Context).IsSampled() {
			continue
		}
		var span trace.Span
		rec.Context, span = w.tracer.Start(rec.Context, "process "+rec.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			semconv.MessagingSystemKafka,
			semconv.MessagingOperationTypeProcess,
			semconv.MessagingOperationName("process"),
			semconv.MessagingDestinationName(rec.Topic),
			semconv.MessagingDestinationPartitionID(fmt.Sprint(rec.Partition)),
			semconv.MessagingKafkaOffset(int(rec.Offset)),
			semconv.MessagingConsumerGroupName(w.cfg.Name),
			semconv.MessagingBatchMessageCount(len(records)),
			attribute.String("hookmesh.stage", w.cfg.Name),
		))
		spans = append(spans, span)
	}
	return spans
}

func endSpans(spans []trace.Span) {
	for _, s := range spans {
		s.End()
	}
}

// meters are what a stage counts.
type meters struct {
	records, outputs, batches, retries, removed, anew metric.Int64Counter
}

func newMeters(tel telemetry.Telemetry) (m meters, err error) {
	meter := tel.Meter("github.com/hookmesh/hookmesh/services/internal/stage")
	counter := func(name, description string) metric.Int64Counter {
		c, e := meter.Int64Counter(name, metric.WithDescription(description))
		if e != nil && err == nil {
			err = e
		}
		return c
	}
	m.records = counter("hookmesh.stage.records", "Records that a stage decided on.")
	m.outputs = counter("hookmesh.stage.outputs", "Records that a stage put out.")
	m.batches = counter("hookmesh.stage.batches", "Transactions of a stage.")
	m.retries = counter("hookmesh.stage.retries", "Steps of a stage that failed and were tried again.")
	m.removed = counter("hookmesh.stage.records_removed_unread", "Records that retention removed before the stage had read them.")
	m.anew = counter("hookmesh.stage.logs_begun_anew", "Partitions whose log was lost and began anew at a lower offset.")
	return m, err
}

// lost counts what a log no longer holds.
func (m meters) lost(ctx context.Context, stage string, gone *OffsetError) {
	if gone.BeganAnew() {
		m.anew.Add(ctx, 1, withStage(stage))
		return
	}
	m.removed.Add(ctx, gone.First-gone.Offset, withStage(stage))
}

func (m meters) batch(ctx context.Context, stage string, records, outputs int) {
	opt := withStage(stage)
	m.records.Add(ctx, int64(records), opt)
	m.outputs.Add(ctx, int64(outputs), opt)
	m.batches.Add(ctx, 1, opt)
}

func withStage(stage string, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(more, attribute.String("stage", stage))...)
}

// Inject writes the trace of a context into headers.
func Inject(ctx context.Context, headers *[]Header) {
	telemetry.Propagator().Inject(ctx, Carrier{headers})
}
