// Package telemetry carries logs, traces and metrics to where they are wanted. Nothing in it is global: what a service
// uses to report stands in its constructor.
package telemetry

import (
	"log/slog"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Telemetry is what a service reports to.
type Telemetry struct {
	Logger         *slog.Logger
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
}

// Nop reports to nobody; for tests and for commands that are not services.
func Nop() Telemetry {
	return Telemetry{
		Logger:         slog.New(slog.DiscardHandler),
		TracerProvider: tracenoop.NewTracerProvider(),
		MeterProvider:  metricnoop.NewMeterProvider(),
	}
}

// Named returns the same telemetry with a logger that says which service speaks.
func (t Telemetry) Named(service string) Telemetry {
	t.Logger = t.Logger.With("service", service)
	return t
}

// Tracer returns the tracer of a package.
func (t Telemetry) Tracer(scope string) trace.Tracer { return t.TracerProvider.Tracer(scope) }

// Meter returns the meter of a package.
func (t Telemetry) Meter(scope string) metric.Meter { return t.MeterProvider.Meter(scope) }

// Propagator is how trace context crosses process borders: W3C traceparent, tracestate and baggage.
func Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}
