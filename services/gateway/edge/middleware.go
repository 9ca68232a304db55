package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// maxHeaderLines bounds how many header lines a request may have; real providers send about twenty.
const maxHeaderLines = 200

// Secure sets the headers that every answer of an API carries: nothing is cached, sniffed, framed or run.
func Secure(next http.Handler) http.Handler {
	// Shared by all answers: whoever adds to one of them gets a copy, because they have no room.
	sniff, cache, policy := []string{"nosniff"}, []string{"no-store"}, []string{"default-src 'none'; frame-ancestors 'none'"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Content-Type-Options"], h["Cache-Control"], h["Content-Security-Policy"] = sniff, cache, policy
		next.ServeHTTP(w, r)
	})
}

// LimitHeaders refuses requests with more header lines than anybody needs. Their size is bounded by the server.
func LimitHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lines := 0
		for _, values := range r.Header {
			lines += len(values)
		}
		if lines > maxHeaderLines {
			problem.Problem{Status: http.StatusRequestHeaderFieldsTooLarge, Code: problem.HeadersTooLarge,
				Detail: fmt.Sprintf("The request has more than %d header lines.", maxHeaderLines)}.Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Recover turns a panic into a 500 and a log line with its stack. The panic's value may hold what a sender sent, so that the
// answer says nothing of it.
func Recover(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &Recorder{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // how net/http is told to cut the connection
			}
			log.ErrorContext(r.Context(), "a request panicked", "method", r.Method, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			if rec.Status == 0 {
				problem.Problem{Status: http.StatusInternalServerError, Code: problem.Internal, Detail: "Something went wrong here; the log says what."}.Write(w)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// Recorder remembers the status that was answered; 0: none yet.
type Recorder struct {
	http.ResponseWriter
	Status int
}

// WriteHeader implements http.ResponseWriter.
func (r *Recorder) WriteHeader(status int) {
	if r.Status == 0 {
		r.Status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *Recorder) Write(p []byte) (int, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *Recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
