package gateway

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// meters are what the gateway counts.
type meters struct {
	requests, sheds, debts, drains, drainFailures, withoutCheck metric.Int64Counter
	duration                                                    metric.Float64Histogram
	gauges                                                      metric.Registration
	// outcomes keeps the attributes of each pair of source and outcome; both are few.
	mu       sync.RWMutex
	outcomes map[outcomeKey]outcomeOptions
}

type outcomeKey struct{ source, outcome string }

// outcomeOptions are the same attributes as the instruments want to have them.
type outcomeOptions struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func newMeters(s *Service) (*meters, error) {
	meter := s.deps.Telemetry.Meter(scope)
	m := &meters{outcomes: map[outcomeKey]outcomeOptions{}}
	var first error
	keep := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	counter := func(name, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithDescription(description))
		keep(err)
		return c
	}
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		keep(err)
		return g
	}
	m.requests = counter("hookmesh.gateway.requests", "Deliveries, by source and outcome.")
	m.sheds = counter("hookmesh.gateway.sheds", "Deliveries that were sent away with 429, by source and code.")
	m.debts = counter("hookmesh.gateway.debts", "Debts that were recorded for the reconciler, by source and reason.")
	m.withoutCheck = counter("hookmesh.gateway.unchecked", "Events that were taken without dedupe's answer, because it did not come in time. What repeats is dropped later.")
	m.drains = counter("hookmesh.gateway.spool.drained", "Records that went from the spool to Kafka.")
	m.drainFailures = counter("hookmesh.gateway.spool.drain_failures", "Tries to write the spool's records to Kafka that failed.")
	if m.drainFailures != nil {
		m.drainFailures.Add(context.Background(), 0) // an alert watches it: it appears at zero
	}
	var err error
	m.duration, err = meter.Float64Histogram("hookmesh.gateway.request.duration", metric.WithUnit("s"),
		metric.WithDescription("From the headers of a delivery to its answer."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	keep(err)
	depth := gauge("hookmesh.gateway.spool.records", "{record}", "Records in the spool that Kafka does not have yet.")
	bytes := gauge("hookmesh.gateway.spool.bytes", "By", "Size of the spool on disk, without files that are drained and go when their room is needed.")
	limit := gauge("hookmesh.gateway.spool.limit", "By", "Largest size of the spool on disk.")
	lost := gauge("hookmesh.gateway.spool.lost", "{record}", "Records that the disk damaged, since the start.")
	inFlight := gauge("hookmesh.gateway.in_flight", "{request}", "Deliveries in work.")
	places := gauge("hookmesh.gateway.in_flight.limit", "{request}", "Deliveries that may be in work, by how long they take.")
	if first != nil {
		return nil, first
	}
	m.gauges, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		st := s.spool.Stats()
		o.ObserveInt64(depth, st.Records)
		o.ObserveInt64(bytes, st.Bytes)
		o.ObserveInt64(limit, st.MaxBytes)
		o.ObserveInt64(lost, st.Lost)
		o.ObserveInt64(inFlight, s.inFlight.Load())
		o.ObserveInt64(places, s.places.Load())
		return nil
	}, depth, bytes, limit, lost, inFlight, places)
	return m, err
}

func (m *meters) close() {
	if m.gauges != nil {
		_ = m.gauges.Unregister() // nothing depends on it
	}
}

func (m *meters) request(ctx context.Context, source, outcome string, took time.Duration) {
	opts := m.options(outcomeKey{source, outcome})
	m.requests.Add(ctx, 1, opts.add...)
	m.duration.Record(ctx, took.Seconds(), opts.record...)
}

func (m *meters) options(key outcomeKey) outcomeOptions {
	m.mu.RLock()
	opts, ok := m.outcomes[key]
	m.mu.RUnlock()
	if ok {
		return opts
	}
	set := metric.WithAttributeSet(attribute.NewSet(attribute.String("source", key.source), attribute.String("outcome", key.outcome)))
	opts = outcomeOptions{[]metric.AddOption{set}, []metric.RecordOption{set}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outcomes[key] = opts
	return opts
}

func (m *meters) shed(source, code string) {
	m.sheds.Add(context.Background(), 1, metric.WithAttributes(attribute.String("source", source), attribute.String("code", code)))
}

func (m *meters) debt(ctx context.Context, source, reason string) {
	m.debts.Add(ctx, 1, metric.WithAttributes(attribute.String("source", source), attribute.String("reason", reason)))
}

func (m *meters) unchecked(ctx context.Context, events int) {
	if events > 0 {
		m.withoutCheck.Add(ctx, int64(events))
	}
}

func (m *meters) drained(ctx context.Context, records int) { m.drains.Add(ctx, int64(records)) }

func (m *meters) drainFailed(ctx context.Context) { m.drainFailures.Add(ctx, 1) }
