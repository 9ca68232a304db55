package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

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

// startSpans gives every record the context of its trace, and a span of its own if the trace is sampled. If several are, the batch has
// a span too, with a link to each of them: their work is one transaction.
func (w *worker[T]) startSpans(records []Record) []trace.Span {
	var spans []trace.Span
	var links []trace.Link
	for i := range records {
		rec := &records[i]
		rec.Context = Extract(context.Background(), rec.Headers)
		sc := trace.SpanContextFromContext(rec.Context)
		if !sc.IsSampled() {
			continue
		}
		links = append(links, trace.Link{SpanContext: sc})
		var span trace.Span
		rec.Context, span = w.tracer.Start(rec.Context, "process "+rec.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			append(w.batchAttributes("process", semconv.MessagingOperationTypeProcess, len(records)),
				semconv.MessagingKafkaOffset(int(rec.Offset)), DocumentHash(rec.Key))...))
		spans = append(spans, span)
	}
	if len(links) > 1 {
		_, span := w.tracer.Start(context.Background(), "receive "+w.cfg.Topic, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(links...), trace.WithAttributes(w.batchAttributes("receive", semconv.MessagingOperationTypeReceive, len(records))...))
		spans = append(spans, span)
	}
	return spans
}

// batchAttributes are what OpenTelemetry's conventions say of a consumer: https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
func (w *worker[T]) batchAttributes(name string, kind attribute.KeyValue, records int) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKafka, kind, semconv.MessagingOperationName(name),
		semconv.MessagingDestinationName(w.cfg.Topic), semconv.MessagingDestinationPartitionID(fmt.Sprint(w.partition)),
		semconv.MessagingConsumerGroupName(w.cfg.Name), semconv.MessagingBatchMessageCount(records), attribute.String("hookmesh.stage", w.cfg.Name),
	}
}

// DocumentHash is an attribute by which the spans of one document are found without its id, which people may have written: the first
// eight bytes of the SHA-256 of its key.
func DocumentHash(key []byte) attribute.KeyValue {
	sum := sha256.Sum256(key)
	return attribute.String("hookmesh.document.key_hash", hex.EncodeToString(sum[:8]))
}

func endSpans(spans []trace.Span) {
	for _, s := range spans {
		s.End()
	}
}

// meters are what a stage counts.
type meters struct {
	records, outputs, batches, retries, removed, anew metric.Int64Counter
	duration                                          metric.Float64Histogram
	transit                                           metric.Float64Histogram
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
	histogram := func(name, description string) metric.Float64Histogram {
		h, e := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
		if e != nil && err == nil {
			err = e
		}
		return h
	}
	m.duration = histogram("hookmesh.stage.batch.duration", "From the fetch of a batch to its outputs in Kafka, by stage.")
	m.transit = histogram("hookmesh.stage.transit", "From a record's time in the log to the stage's outputs in Kafka, by stage: how long the oldest record of each batch took.")
	return m, err
}

// begin makes the counters that alerts watch appear at zero: a counter that appears with its first count hides it from increase().
func (m meters) begin(stage string) {
	for _, c := range []metric.Int64Counter{m.records, m.outputs, m.batches, m.retries, m.removed, m.anew} {
		c.Add(context.Background(), 0, withStage(stage))
	}
}

// took records how long a batch took. ctx is that of one of its records: the histogram keeps it as an exemplar.
func (m meters) took(ctx context.Context, stage string, records []Record, began, now time.Time) {
	if ctx == nil {
		ctx = context.Background()
	}
	m.duration.Record(ctx, now.Sub(began).Seconds(), withStage(stage))
	if len(records) > 0 && !records[0].Time.IsZero() {
		m.transit.Record(ctx, max(0, now.Sub(records[0].Time).Seconds()), withStage(stage))
	}
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
