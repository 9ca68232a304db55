package gateway

import (
	"log/slog"
	"net/http"
	"time"
)

// ServerConfig bounds connections. The zero value of each field stands for its default.
type ServerConfig struct {
	// Addr is where ListenAndServe listens; Serve does not need it.
	Addr string
	// ReadHeaderTimeout bounds how long the headers of a request may take; default 5 s.
	ReadHeaderTimeout time.Duration
	// ReadTimeout bounds how long a whole request may take to arrive; default 30 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds request and answer together; default ReadTimeout and 30 s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a request; default 2 min, longer than most load balancers'.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the headers of a request; default 64 KiB. net/http answers 431 itself.
	MaxHeaderBytes int
	// Logger hears what net/http complains about; nil: nobody does.
	Logger *slog.Logger
}

// NewHTTPServer returns a server whose connections cannot be held open by sending slowly, nor filled by sending large headers.
func NewHTTPServer(handler http.Handler, cfg ServerConfig) *http.Server {
	def(&cfg.ReadHeaderTimeout, 5*time.Second)
	def(&cfg.ReadTimeout, 30*time.Second)
	def(&cfg.WriteTimeout, cfg.ReadTimeout+30*time.Second)
	def(&cfg.IdleTimeout, 2*time.Minute)
	def(&cfg.MaxHeaderBytes, 64<<10)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Addr: cfg.Addr, Handler: handler, ReadHeaderTimeout: cfg.ReadHeaderTimeout, ReadTimeout: cfg.ReadTimeout,
		WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout, MaxHeaderBytes: cfg.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
}
