// Package admin is the operators' HTTP server: health, metrics, profiles, and the traces that are still in memory.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Server is the admin server. It answers /healthz from the beginning and /readyz once Ready was called.
type Server struct {
	ready atomic.Bool
	check func(context.Context) error
	http  *http.Server
}

// New returns a server. check is asked at every /readyz once the process is ready; it should be quick. calls answers gRPC calls, which come
// as HTTP/2 without TLS. What warnings say stands in /healthz, whose status stays 200: a restart would not help.
func New(run *telemetry.Running, check func(context.Context) error, calls http.Handler, warnings ...func() []string) *Server {
	s := &Server{check: check}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		text := "ok"
		for _, warn := range warnings {
			for _, warning := range warn() {
				text += "\nwarning: " + warning
			}
		}
		answer(w, http.StatusOK, text)
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", run.Metrics)
	mux.HandleFunc("GET /debug/traces/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"spans": run.Spans.Trace(r.PathValue("id"))})
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{Handler: both, Protocols: &protocols, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10}
	return s
}

// Ready says whether the process can do its work now.
func (s *Server) Ready(ready bool) { s.ready.Store(ready) }

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if !s.ready.Load() {
		answer(w, http.StatusServiceUnavailable, "starting or stopping")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.check(ctx); err != nil {
		answer(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, "ready")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
