package edge

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Trace starts a server span for every request. Senders of webhooks are outside: their traceparent becomes a link of a new
// trace, so that nobody can write into a trace of ours or decide what is sampled. With trust it becomes the parent instead.
// Neither query strings nor headers become attributes, because they carry tokens.
func Trace(tracer trace.Tracer, trust bool, next http.Handler) http.Handler {
	propagator := telemetry.Propagator()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route := Route(r.URL.Path)
		opts := []trace.SpanStartOption{
			trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method(r.Method)), semconv.HTTPRoute(route), semconv.URLScheme(scheme(r))),
		}
		ctx := r.Context()
		remote := propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
		switch sc := trace.SpanContextFromContext(remote); {
		case sc.IsValid() && trust:
			ctx = remote
		case sc.IsValid():
			opts = append(opts, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: sc}))
		default:
			opts = append(opts, trace.WithNewRoot())
		}
		ctx, span := tracer.Start(ctx, method(r.Method)+" "+route, opts...)
		defer span.End()
		if !span.IsRecording() {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		rec := &Recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r.WithContext(ctx))
		span.SetAttributes(semconv.HTTPResponseStatusCode(rec.Status))
		if rec.Status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(rec.Status))
		}
	})
}

// Route names the kind of a path, with few values, for spans.
func Route(path string) string {
	if strings.HasPrefix(path, "/webhooks/") {
		return "/webhooks/{source}"
	}
	rest, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return "/"
	}
	first, _, _ := strings.Cut(rest, "/")
	switch first {
	case "search", "documents", "events", "sources", "dead-letters":
		return "/v1/" + first
	}
	return "/v1"
}

// method bounds the names of spans: a sender may invent methods.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
		return m
	}
	return "_OTHER"
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}
