package edge

import (
	"crypto/rand"
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/gateway/problem"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// maxRequestID bounds an id that a caller gives.
const maxRequestID = 128

// RequestID names every request in its answer, in problems and in the log: by the caller's X-Request-Id if it is well-formed, else by
// the id of the trace, which the log has anyway. Use it inside of Trace.
func RequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given := r.Header[problem.RequestIDHeader]
		if len(given) == 1 && wellFormed(given[0]) {
			w.Header()[problem.RequestIDHeader] = given[:1:1]
			next.ServeHTTP(w, r.WithContext(telemetry.WithRequestID(r.Context(), given[0])))
			return
		}
		if sc := trace.SpanContextFromContext(r.Context()); sc.HasTraceID() {
			w.Header()[problem.RequestIDHeader] = []string{sc.TraceID().String()}
			next.ServeHTTP(w, r)
			return
		}
		id := rand.Text()
		w.Header()[problem.RequestIDHeader] = []string{id}
		next.ServeHTTP(w, r.WithContext(telemetry.WithRequestID(r.Context(), id)))
	})
}

// wellFormed says whether an id can go into logs and headers as it is: letters, digits and - _ . : + / = only.
func wellFormed(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '+', c == '/', c == '=':
		default:
			return false
		}
	}
	return true
}
