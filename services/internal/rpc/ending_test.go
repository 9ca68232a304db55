package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
)

// talkative answers in several parts, of which the channel holds one.
type talkative struct {
	dedupev1.UnimplementedDedupeServiceServer
}

func (talkative) GetEvent(ctx context.Context, _ *dedupev1.GetEventRequest) (*dedupev1.GetEventResponse, error) {
	for _, set := range []func(context.Context, metadata.MD) error{grpc.SetHeader, grpc.SetTrailer} {
		if err := set(ctx, metadata.Pairs("k", "v")); err != nil {
			return nil, err
		}
	}
	return nil, status.Error(codes.NotFound, "no such event")
}

// observer calls header when the answer's first part has come, and notes how the call ended.
type observer struct {
	header func()
	end    error
}

func (*observer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*observer) HandleConn(context.Context, stats.ConnStats)                       {}
func (o *observer) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InHeader:
		o.header()
	case *stats.End:
		o.end = s.Error
	}
}

// The call is over when the first part of its answer has come, and the server ends before its caller looks again: nothing more comes, and
// the caller has both before it, that it is over and that the server has ended. Which it takes is chance, so it is asked often.
func TestACallThatIsOverSaysSoAlsoWhenTheServerHasEnded(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{"its deadline passed": {context.DeadlineExceeded, codes.DeadlineExceeded}, "it was cancelled": {context.Canceled, codes.Canceled}} {
		t.Run(name, func(t *testing.T) {
			for range 200 {
				synctest.Test(t, func(t *testing.T) {
					ctx, over := context.WithCancel(t.Context())
					defer over()
					if c.want == codes.DeadlineExceeded {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, 1)
						defer cancel()
						over = func() { <-ctx.Done() }
					}
					o := &observer{header: func() {
						synctest.Wait() // the trailer is in the channel, so that there is no room for the error behind it
						over()
						synctest.Wait()
					}}
					channel := (&inprocgrpc.Channel{}).WithCloner(handover{}).WithClientStatsHandler(endings{o})
					dedupev1.RegisterDedupeServiceServer(channel, talkative{})
					_, err := dedupev1.NewDedupeServiceClient(Local{channel}).GetEvent(ctx, &dedupev1.GetEventRequest{})
					if status.Code(err) != c.want || status.Code(o.end) != c.want {
						t.Fatalf("%v, and %v for who counts calls, want %v", err, o.end, c.want)
					}
				})
			}
		})
	}
}

func TestAStreamThatIsOverSaysWhy(t *testing.T) {
	channel := (&inprocgrpc.Channel{}).WithCloner(handover{})
	sourcev1.RegisterSourceServiceServer(channel, sourcev1.UnimplementedSourceServiceServer{})
	for _, want := range []codes.Code{codes.Unimplemented, codes.Canceled} {
		for range 100 { // what the caller sees first is chance: that the call is over, that the server has ended it, or neither
			ctx, cancel := context.WithCancel(t.Context())
			if want == codes.Canceled {
				cancel()
			}
			stream, err := sourcev1.NewSourceServiceClient(Local{channel}).WatchSources(ctx, &sourcev1.WatchSourcesRequest{})
			if err == nil {
				_, err = stream.Header()
			}
			if err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != want {
				t.Errorf("%v, want %v", err, want)
			}
			cancel()
		}
	}
}

// thorough takes a quarter of an hour for everything, unless it is told to stop.
type thorough struct {
	reconcilerv1.UnimplementedReconcilerServiceServer
}

func (thorough) SweepSource(ctx context.Context, _ *reconcilerv1.SweepSourceRequest) (*reconcilerv1.SweepSourceResponse, error) {
	return &reconcilerv1.SweepSourceResponse{}, think(ctx)
}

func (thorough) ListDrift(ctx context.Context, _ *reconcilerv1.ListDriftRequest) (*reconcilerv1.ListDriftResponse, error) {
	return &reconcilerv1.ListDriftResponse{}, think(ctx)
}

func think(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-time.After(15 * time.Minute):
		return nil
	}
}

func TestASweepTakesAsLongAsItTakesAlsoInsideTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		channel := (&inprocgrpc.Channel{}).WithCloner(handover{})
		reconcilerv1.RegisterReconcilerServiceServer(channel, thorough{})
		client := reconcilerv1.NewReconcilerServiceClient(Local{channel})
		if _, err := client.SweepSource(t.Context(), &reconcilerv1.SweepSourceRequest{}); err != nil {
			t.Error(err)
		}
		if _, err := client.ListDrift(t.Context(), &reconcilerv1.ListDriftRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a question that should be answered at once: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := client.SweepSource(ctx, &reconcilerv1.SweepSourceRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a sweep whose caller goes: %v", err)
		}
	})
}
