package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// callTimeout bounds a call whose context has no nearer deadline, except for the unbounded ones; between processes serviceConfig says the same.
const callTimeout = 10 * time.Second

// Local is a connection to the services that are registered in the same process. Calls go through the server's interceptors
// and are traced and counted as those over the network, but messages are handed over instead of being encoded, framed and
// decoded. Each side has a message of its own, whose parts (bytes, lists, messages inside) are shared with the other side: a
// request's parts belong to both from the call on and are not changed by either, an answer's parts belong to the caller.
type Local struct{ channel *inprocgrpc.Channel }

var _ grpc.ClientConnInterface = Local{}

func newLocal(interceptor grpc.UnaryServerInterceptor, opts ...otelgrpc.Option) Local {
	return Local{(&inprocgrpc.Channel{}).
		WithCloner(handover{}).
		WithServerUnaryInterceptor(interceptor).
		WithServerStatsHandler(otelgrpc.NewServerHandler(opts...)).
		WithClientStatsHandler(endings{otelgrpc.NewClientHandler(opts...)})}
}

// Invoke implements grpc.ClientConnInterface.
func (l Local) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if !slices.Contains(unbounded, strings.TrimPrefix(method, "/")) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	return ending(ctx, l.channel.Invoke(ctx, method, args, reply, opts...))
}

// NewStream implements grpc.ClientConnInterface.
func (l Local) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := l.channel.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, err
	}
	return localStream{stream, desc.ClientStreams}, nil
}

// ending is the error with which a call ended as callers know it from the network. When the call's time is over, a server that comes to its
// end at that moment may say nothing any more, and to the caller either can look as if it had come first: the end of the time, or that of a
// channel with no answer in it, which the channel calls io.EOF. It has that one only of a call that is over; else a server always answers.
func ending(ctx context.Context, err error) error {
	if err == io.EOF && ctx.Err() != nil { //nolint:errorlint // the channel's own; a service's error never comes bare (see translate)
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

// endings tells those who trace and count calls how they ended for the caller.
type endings struct{ stats.Handler }

// HandleRPC implements stats.Handler.
func (e endings) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok {
		end.Error = ending(ctx, end.Error)
	}
	e.Handler.HandleRPC(ctx, s)
}

// localStream is a stream that ends as one over the network does: with statuses, and where the caller looks for them.
type localStream struct {
	grpc.ClientStream
	sends bool // the caller sends as much as it likes
}

// SendMsg implements grpc.ClientStream.
func (s localStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err == io.EOF && !s.sends { //nolint:errorlint // as it stands in the contract of SendMsg
		return nil // the server has ended the call already: why, is what the caller receives next
	}
	return s.over(err)
}

// Header implements grpc.ClientStream.
func (s localStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, s.over(err)
}

// over makes a status of the error of a context.
func (s localStream) over(err error) error {
	if err != nil && errors.Is(err, s.Context().Err()) {
		return status.FromContextError(err).Err()
	}
	return err
}

// handover passes messages on without copying what they hold.
type handover struct{}

var _ inprocgrpc.Cloner = handover{}

// Copy implements inprocgrpc.Cloner.
func (handover) Copy(out, in any) error {
	to, ok := out.(proto.Message)
	from, same := in.(proto.Message)
	if !ok || !same || to.ProtoReflect().Descriptor() != from.ProtoReflect().Descriptor() {
		return fmt.Errorf("a message of type %T cannot be handed over as %T", in, out)
	}
	proto.Reset(to)
	dst, src := to.ProtoReflect(), from.ProtoReflect()
	src.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		dst.Set(field, value)
		return true
	})
	dst.SetUnknown(src.GetUnknown())
	return nil
}

// Clone implements inprocgrpc.Cloner for streams, whose senders may use a message again.
func (handover) Clone(in any) (any, error) {
	m, ok := in.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a message", in)
	}
	return proto.Clone(m), nil
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
