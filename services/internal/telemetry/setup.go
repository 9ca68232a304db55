package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Options says what to set up.
type Options struct {
	// Logger is what everybody logs to.
	Logger *slog.Logger
	// Service is the name in the resource: hookmesh-gateway, say; empty: hookmesh.
	Service string
	// Version of the program, for the resource.
	Version string
	// TracesPerSecond bounds how many new traces are recorded per second; negative: all. OTEL_TRACES_SAMPLER takes precedence.
	TracesPerSecond float64
	// KeepSpans is how many finished spans are kept in memory for `hookmesh trace`.
	KeepSpans int
}

// Running is telemetry that was set up.
type Running struct {
	Telemetry
	// Spans holds the last finished spans.
	Spans *SpanBuffer
	// Metrics serves them in the format of Prometheus.
	Metrics  http.Handler
	shutdown []func(context.Context) error
}

// Setup starts tracing, metrics and logs. All three are exported over OTLP as the standard OTEL_* variables say; without them traces stay in
// memory, metrics are served for Prometheus, and logs are written.
func Setup(ctx context.Context, opts Options) (*Running, error) {
	instance, err := instanceID()
	if err != nil {
		return nil, err
	}
	// What the environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) counts more.
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(semconv.ServiceNamespace("hookmesh"),
		semconv.ServiceName(cmp.Or(opts.Service, "hookmesh")), semconv.ServiceVersion(opts.Version), semconv.ServiceInstanceID(instance)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("describe this process: %w", err)
	}
	run := &Running{Spans: NewSpanBuffer(opts.KeepSpans)}

	traceOpts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSpanProcessor(run.Spans)}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		traceOpts = append(traceOpts, sdktrace.WithSampler(sdktrace.ParentBased(newRateSampler(opts.TracesPerSecond))))
	}
	exporter, err := traceExporter(ctx)
	if err != nil {
		return nil, err
	}
	if exporter != nil {
		traceOpts = append(traceOpts, sdktrace.WithBatcher(exporter))
	}
	traces := sdktrace.NewTracerProvider(traceOpts...)

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	meterOpts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader)}
	periodic, err := metricReader(ctx)
	if err != nil {
		return nil, err
	}
	if periodic != nil {
		meterOpts = append(meterOpts, sdkmetric.WithReader(periodic))
	}
	meters := sdkmetric.NewMeterProvider(meterOpts...)
	logger, closeLogs, err := exportLogs(ctx, opts.Logger, res)
	if err != nil {
		return nil, err
	}

	run.Metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	run.Telemetry = Telemetry{Logger: logger, TracerProvider: traces, MeterProvider: meters}
	run.shutdown = []func(context.Context) error{traces.Shutdown, meters.Shutdown, closeLogs}
	return run, nil
}

// Shutdown sends what is still waiting to be exported.
func (r *Running) Shutdown(ctx context.Context) error {
	var errs []error
	for _, fn := range r.shutdown {
		errs = append(errs, fn(ctx))
	}
	return errors.Join(errs...)
}
