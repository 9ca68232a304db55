package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"
)

// NewLogger returns a logger. Format auto is text on a terminal and JSON elsewhere; lines written within a span carry its ids.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	if format == "auto" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(withIDs{slog.NewTextHandler(w, opts)}), nil
	case "json":
		return slog.New(withIDs{slog.NewJSONHandler(w, opts)}), nil
	}
	return nil, fmt.Errorf("log format %q is not one of auto, text, json", format)
}

type requestIDKey struct{}

// WithRequestID returns a context whose log lines carry a request's id. It need not be set where the trace's id is the request's.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

type alwaysKey struct{}

// Always returns a context whose log lines are written whatever the level: an audit log must not end because somebody wanted less to read.
func Always(ctx context.Context) context.Context {
	return context.WithValue(ctx, alwaysKey{}, true)
}

// withIDs adds the trace, span and request ids of the context to every line.
type withIDs struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h withIDs) Enabled(ctx context.Context, l slog.Level) bool {
	return ctx.Value(alwaysKey{}) != nil || h.Handler.Enabled(ctx, l)
}

func (h withIDs) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if id, ok := ctx.Value(requestIDKey{}).(string); ok {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withIDs) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withIDs{h.Handler.WithAttrs(attrs)}
}
func (h withIDs) WithGroup(name string) slog.Handler { return withIDs{h.Handler.WithGroup(name)} }
