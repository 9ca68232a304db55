package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	// sampleEvery is how old a sampled value may be.
	sampleEvery = 10 * time.Second
	// sampleTimeout bounds how long a collection waits for values.
	sampleTimeout = 3 * time.Second
)

// Gauge names a sampled gauge.
type Gauge struct{ Name, Unit, Description string }

// Reading is one value of a gauge.
type Reading struct {
	Gauge      string
	Value      int64
	Attributes []attribute.KeyValue
}

// Read is a value of a gauge with attributes in pairs of key and value.
func Read(gauge string, value int64, pairs ...string) Reading {
	r := Reading{Gauge: gauge, Value: value}
	for i := 0; i+1 < len(pairs); i += 2 {
		r.Attributes = append(r.Attributes, attribute.String(pairs[i], pairs[i+1]))
	}
	return r
}

// Sample registers gauges whose values are read together from a store or over the network: at most every ten seconds, however many
// collect them. While read fails the gauges are absent, which is a sign too; the error goes to the log.
func (t Telemetry) Sample(scope string, gauges []Gauge, read func(context.Context) ([]Reading, error)) error {
	meter := t.Meter(scope)
	s := &sampler{read: read, gauges: map[string]metric.Int64ObservableGauge{}, tel: t}
	var instruments []metric.Observable
	for _, g := range gauges {
		instrument, err := meter.Int64ObservableGauge(g.Name, metric.WithUnit(g.Unit), metric.WithDescription(g.Description))
		if err != nil {
			return fmt.Errorf("gauge %s: %w", g.Name, err)
		}
		s.gauges[g.Name] = instrument
		instruments = append(instruments, instrument)
	}
	if _, err := meter.RegisterCallback(s.observe, instruments...); err != nil {
		return fmt.Errorf("gauges of %s: %w", scope, err)
	}
	return nil
}

// sampler keeps the last values for all who collect.
type sampler struct {
	read   func(context.Context) ([]Reading, error)
	gauges map[string]metric.Int64ObservableGauge
	tel    Telemetry

	mu   sync.Mutex
	at   time.Time
	last []Reading
}

func (s *sampler) observe(ctx context.Context, o metric.Observer) error {
	for _, r := range s.readings(ctx) {
		if g, ok := s.gauges[r.Gauge]; ok {
			o.ObserveInt64(g, r.Value, metric.WithAttributes(r.Attributes...))
		}
	}
	return nil
}

func (s *sampler) readings(ctx context.Context) []Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() && time.Since(s.at) < sampleEvery {
		return s.last
	}
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	var err error
	if s.last, err = s.read(ctx); err != nil {
		s.last = nil
		if !errors.Is(err, context.Canceled) {
			s.tel.Logger.Warn("metrics could not be read; they are left out", "error", err)
		}
		return nil
	}
	s.at = time.Now()
	return s.last
}
