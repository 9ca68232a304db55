package rpc

import (
	"context"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
)

// callTimeout bounds a call whose context has no nearer deadline; between processes the service configuration says the same.
const callTimeout = 10 * time.Second

// Local is a connection to the services that are registered in the same process. Calls go through the server's interceptors
// and are traced and counted as those over the network, but messages are copied instead of being encoded, framed and decoded.
type Local struct{ channel *inprocgrpc.Channel }

var _ grpc.ClientConnInterface = Local{}

func newLocal(interceptor grpc.UnaryServerInterceptor, opts ...otelgrpc.Option) Local {
	return Local{(&inprocgrpc.Channel{}).
		WithServerUnaryInterceptor(interceptor).
		WithServerStatsHandler(otelgrpc.NewServerHandler(opts...)).
		WithClientStatsHandler(otelgrpc.NewClientHandler(opts...))}
}

// Invoke implements grpc.ClientConnInterface.
func (l Local) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.channel.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (l Local) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return l.channel.NewStream(ctx, desc, method, opts...)
}

// chain calls interceptors from the first to the last, and then the handler.
func chain(interceptors ...grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		next := handler
		for i := len(interceptors) - 1; i >= 0; i-- {
			interceptor, inner := interceptors[i], next
			next = func(ctx context.Context, req any) (any, error) { return interceptor(ctx, req, info, inner) }
		}
		return next(ctx, req)
	}
}
