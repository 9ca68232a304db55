package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
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

// Setup starts tracing and metrics. Traces are exported as the standard OTEL_* variables say; without them they only stay in memory.
func Setup(ctx context.Context, opts Options) (*Running, error) {
	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("hookmesh"), semconv.ServiceVersion(opts.Version)))
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
	reader, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(reader))

	run.Metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	run.Telemetry = Telemetry{Logger: opts.Logger, TracerProvider: traces, MeterProvider: meters}
	run.shutdown = []func(context.Context) error{traces.Shutdown, meters.Shutdown}
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

// traceExporter reads the standard variables. Nothing is exported unless one of them asks for it:
// OTEL_TRACES_EXPORTER=otlp or an OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func traceExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	kind := os.Getenv("OTEL_TRACES_EXPORTER")
	if kind == "" && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "") {
		kind = "otlp"
	}
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		kind = "none"
	}
	switch kind {
	case "", "none":
		return nil, nil
	case "otlp":
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; only otlp and none are supported", kind)
	}
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	var client otlptrace.Client
	switch protocol {
	case "", "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; only http/protobuf and grpc are supported", protocol)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("start the OTLP exporter: %w", err)
	}
	return exporter, nil
}
