package telemetry

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// protocol reads the standard variables for a signal (TRACES, METRICS, LOGS) and returns how it is exported: grpc, http, or "" for not at
// all. Nothing is exported unless one of them asks for it: OTEL_<SIGNAL>_EXPORTER=otlp or an OTEL_EXPORTER_OTLP_[<SIGNAL>_]ENDPOINT.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func protocol(signal string) (string, error) {
	kind := os.Getenv("OTEL_" + signal + "_EXPORTER")
	if kind == "" && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "") {
		kind = "otlp"
	}
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		kind = "none"
	}
	switch kind {
	case "", "none":
		return "", nil
	case "otlp":
	default:
		return "", fmt.Errorf("OTEL_%s_EXPORTER is %q; only otlp and none are supported", signal, kind)
	}
	switch p := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); p {
	case "", "http/protobuf":
		return "http", nil
	case "grpc":
		return "grpc", nil
	default:
		return "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; only http/protobuf and grpc are supported", p)
	}
}

// traceExporter exports spans; nil: nobody asked for it.
func traceExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	p, err := protocol("TRACES")
	if err != nil || p == "" {
		return nil, err
	}
	client := otlptracehttp.NewClient()
	if p == "grpc" {
		client = otlptracegrpc.NewClient()
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("start the OTLP exporter of traces: %w", err)
	}
	return exporter, nil
}

// metricReader exports metrics every OTEL_METRIC_EXPORT_INTERVAL; nil: nobody asked for it.
func metricReader(ctx context.Context) (sdkmetric.Reader, error) {
	p, err := protocol("METRICS")
	if err != nil || p == "" {
		return nil, err
	}
	var exporter sdkmetric.Exporter
	if p == "grpc" {
		exporter, err = otlpmetricgrpc.New(ctx)
	} else {
		exporter, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("start the OTLP exporter of metrics: %w", err)
	}
	return sdkmetric.NewPeriodicReader(exporter), nil
}

// exportLogs returns a logger that writes as before and, if somebody asked for it, exports every line too.
func exportLogs(ctx context.Context, logger *slog.Logger, res *resource.Resource) (*slog.Logger, func(context.Context) error, error) {
	none := func(context.Context) error { return nil }
	p, err := protocol("LOGS")
	if err != nil || p == "" {
		return logger, none, err
	}
	var exporter sdklog.Exporter
	if p == "grpc" {
		exporter, err = otlploggrpc.New(ctx)
	} else {
		exporter, err = otlploghttp.New(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("start the OTLP exporter of logs: %w", err)
	}
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	exported := otelslog.NewHandler("github.com/hookmesh/hookmesh", otelslog.WithLoggerProvider(provider))
	return slog.New(slog.NewMultiHandler(logger.Handler(), leveled{exported, logger.Handler()})), provider.Shutdown, nil
}

// leveled lets through what another handler's level lets through.
type leveled struct {
	slog.Handler
	level slog.Handler
}

// Enabled implements slog.Handler.
func (h leveled) Enabled(ctx context.Context, l slog.Level) bool { return h.level.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup implements slog.Handler.
func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}

// instanceID tells replicas of a service apart: the host's name, which in a container is the pod's, and some chance.
func instanceID() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name this process: %w", err)
	}
	return host + "-" + rand.Text()[:8], nil
}
