package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// healthServer is the health service, whose watches end when the server stops: clients watch as long as they are connected, and would hold up
// a graceful stop to its timeout.
type healthServer struct {
	*health.Server
	once     sync.Once
	stopping chan struct{}
}

// stop tells all watchers that the server is going away, and ends their watches.
func (h *healthServer) stop() {
	h.Shutdown()
	h.once.Do(func() { close(h.stopping) })
}

// Watch implements healthpb.HealthServer.
func (h *healthServer) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-h.stopping:
			cancel()
		case <-done:
		}
	}()
	return h.Server.Watch(req, watchStream{stream, ctx})
}

// watchStream is a stream with a context of its own.
type watchStream struct {
	grpc.ServerStreamingServer[healthpb.HealthCheckResponse]
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s watchStream) Context() context.Context { return s.ctx }
