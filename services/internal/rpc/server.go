// Package rpc is how the services of the mesh meet over gRPC: one kind of server, one kind of client, whether they are in
// one process (over an in-memory listener) or not. The code that calls cannot tell.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// MaxMessageBytes bounds a message: a webhook of 10 MiB, with its payload and what was extracted from it, fits.
const MaxMessageBytes = 64 << 20

// Server is a gRPC server of the mesh.
type Server struct {
	*grpc.Server
	local  Local
	health *healthServer
}

// NewServer returns a server that validates requests, survives panics, traces, and reports errors without their inner details. With files it
// lets only those in who show a certificate of the same authority. Callers over the network pass the gate; those in the same process do not
// come to it. An error for which any of transient says true goes away by itself, as the drivers of the stores know: its caller may try again.
func NewServer(files *tlsfiles.Source, gate *access.Gate, tel telemetry.Telemetry, transient ...func(error) bool) (*Server, error) {
	secure := insecure.NewCredentials()
	if files != nil {
		cfg, err := files.Server("h2")
		if err != nil {
			return nil, err
		}
		secure = credentials.NewTLS(cfg)
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("build the request validator: %w", err)
	}
	recovers, inner := recoverPanics(tel.Logger), chain(translate(tel.Logger, transient), validate(validator))
	s := &Server{
		Server: grpc.NewServer(
			grpc.Creds(secure),
			grpc.StatsHandler(otelgrpc.NewServerHandler(instrumentation(tel)...)),
			grpc.MaxRecvMsgSize(MaxMessageBytes), grpc.MaxSendMsgSize(MaxMessageBytes),
			grpc.UnaryInterceptor(chain(recovers, gate.Unary(tel.Logger), inner)),
			grpc.StreamInterceptor(gate.Stream(tel.Logger)),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
			// Connections end now and then, so that clients look their names up again and find new replicas.
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionAge: 5 * time.Minute, MaxConnectionAgeGrace: 30 * time.Second}),
		),
		local:  newLocal(chain(recovers, inner), instrumentation(tel)...),
		health: &healthServer{Server: health.NewServer(), stopping: make(chan struct{})},
	}
	healthpb.RegisterHealthServer(s.Server, s.health)
	return s, nil
}

// Introspection answers what services there are (gRPC reflection) and whether they are healthy. It is served on the operators' port only:
// whoever may call the services learns nothing from it.
func (s *Server) Introspection() http.Handler {
	server := grpc.NewServer()
	reflectionpb.RegisterServerReflectionServer(server, reflection.NewServerV1(reflection.ServerOptions{Services: s.Server}))
	healthpb.RegisterHealthServer(server, s.health)
	return server
}

// instrumentation is how calls are traced and counted.
func instrumentation(tel telemetry.Telemetry) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(tel.TracerProvider), otelgrpc.WithMeterProvider(tel.MeterProvider),
		otelgrpc.WithPropagators(telemetry.Propagator()),
	}
}

// RegisterService implements grpc.ServiceRegistrar: callers in other processes and in this one find the same service.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, service any) {
	s.Server.RegisterService(desc, service)
	s.local.channel.RegisterService(desc, service)
}

// Local is the connection to the services of this process. It may be used as soon as they are registered.
func (s *Server) Local() Local { return s.local }

// Serve serves on all listeners until ctx ends, then stops: gracefully for a few seconds, then at once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.Server.Serve(l) }()
	}
	var err error
	running := len(listeners)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	s.health.stop()
	stopped := make(chan struct{})
	go func() { s.GracefulStop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(5 * time.Second):
		s.Stop()
		<-stopped
	}
	for range running {
		if e := <-failed; e != nil && !errors.Is(e, grpc.ErrServerStopped) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// recoverPanics turns a panic into INTERNAL, so that one bad request cannot stop the process.
func recoverPanics(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
		defer func() {
			if p := recover(); p != nil {
				logger.ErrorContext(ctx, "a call panicked", "method", info.FullMethod, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				res, err = nil, status.Error(codes.Internal, "internal error")
			}
		}()
		return next(ctx, req)
	}
}

// translate lets statuses through and hides every other error from the caller: it belongs into the log. What is wrong for the moment only
// (a database that restarts, a lost connection, a row that others hold) is UNAVAILABLE, which HTTP answers with 503. Callers try again what may be
// asked twice (see serviceConfig): with a connection goes the knowledge of whether the last thing that was sent over it was done.
func translate(logger *slog.Logger, transient []func(error) bool) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		res, err := next(ctx, req)
		if err == nil {
			return res, nil
		}
		if _, ok := status.FromError(err); ok {
			return nil, err
		}
		passes := func(is func(error) bool) bool { return is(err) }
		switch {
		case ctx.Err() == nil && slices.ContainsFunc(transient, passes): // a driver's own timeout is no deadline of the caller's
			logger.WarnContext(ctx, "a call failed for the moment", "method", info.FullMethod, "error", err)
			if errors.Is(err, stage.ErrUncertain) {
				return nil, status.Error(codes.Unavailable, "what the service works with was lost while it answered: a change may have been made or not; look before you try again")
			}
			return nil, status.Error(codes.Unavailable, "what the service works with does not answer now; try again")
		case errors.Is(err, context.DeadlineExceeded):
			return nil, status.Error(codes.DeadlineExceeded, "the deadline passed")
		case errors.Is(err, context.Canceled):
			return nil, status.Error(codes.Canceled, "the call was cancelled")
		}
		logger.ErrorContext(ctx, "a call failed", "method", info.FullMethod, "error", err)
		return nil, status.Error(codes.Internal, "internal error; the service's log says more")
	}
}

// validate checks requests against the rules in their proto files.
func validate(v protovalidate.Validator) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if msg, ok := req.(proto.Message); ok {
			if err := v.Validate(msg); err != nil {
				return nil, status.Error(codes.InvalidArgument, err.Error())
			}
		}
		return next(ctx, req)
	}
}
