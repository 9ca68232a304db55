package edge

import (
	"net/http"
	"slices"
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
	kinds := spanKinds()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := kinds[spanKey{method(r.Method), Route(r.URL.Path), r.TLS != nil}]
		ctx, opts := r.Context(), kind.root
		if len(r.Header["Traceparent"]) > 0 {
			remote := propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
			switch sc := trace.SpanContextFromContext(remote); {
			case sc.IsValid() && trust:
				ctx, opts = remote, kind.child
			case sc.IsValid():
				opts = append(slices.Clone(kind.root), trace.WithLinks(trace.Link{SpanContext: sc}))
			}
		}
		ctx, span := tracer.Start(ctx, kind.name, opts...)
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

// spanKey tells the kinds of requests apart.
type spanKey struct {
	method, route string
	secure        bool
}

// spanKind is what all spans of a kind have in common: most are not recorded, and building options for each would cost more
// than the rest of the span.
type spanKind struct {
	name        string
	root, child []trace.SpanStartOption
}

// spanKinds are all kinds there are.
func spanKinds() map[spanKey]*spanKind {
	kinds := map[spanKey]*spanKind{}
	for _, m := range append([]string{otherMethod}, methods...) {
		for _, route := range append([]string{rootRoute, webhookRoute, apiRoute}, apiRoutes...) {
			for _, secure := range []bool{false, true} {
				kinds[spanKey{m, route, secure}] = newSpanKind(m, route, secure)
			}
		}
	}
	return kinds
}

func newSpanKind(method, route string, secure bool) *spanKind {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	child := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route), semconv.URLScheme(scheme)),
	}
	return &spanKind{name: method + " " + route, child: child, root: append(slices.Clone(child), trace.WithNewRoot())}
}

const (
	rootRoute    = "/"
	webhookRoute = "/webhooks/{source}"
	apiRoute     = "/v1"
	otherMethod  = "_OTHER"
)

var (
	// apiRoutes are the collections of the API.
	apiRoutes = []string{"/v1/search", "/v1/documents", "/v1/events", "/v1/sources", "/v1/dead-letters"}
	methods   = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions}
)

// Route names the kind of a path, with few values, for spans.
func Route(path string) string {
	if strings.HasPrefix(path, "/webhooks/") {
		return webhookRoute
	}
	if !strings.HasPrefix(path, "/v1/") {
		return rootRoute
	}
	for _, route := range apiRoutes {
		if rest, ok := strings.CutPrefix(path, route); ok && (rest == "" || rest[0] == '/') {
			return route
		}
	}
	return apiRoute
}

// method bounds the names of spans: a sender may invent methods.
func method(m string) string {
	if slices.Contains(methods, m) {
		return m
	}
	return otherMethod
}
