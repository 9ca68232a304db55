package rpc_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	_ "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1" // for its methods, as the others below
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/rpc"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// repeatable are changes, and questions to others, of which a second try tells the same as the first.
var repeatable = []string{
	"dedupe.v1.DedupeService/Check", "embedder.v1.KnowledgeService/Search", "sequencer.v1.SequencerService/WaitForGap", "source.v1.SourceService/DisableSource",
	"source.v1.SourceService/EnableSource", "reconciler.v1.ReconcilerService/StartBackfill", "verifier.v1.VerifierService/Verify", "verifier.v1.VerifierService/VerifyBatch",
	"verifier.v1.VerifierService/Understand",
}

// unbounded are those that take as long as they take.
var unbounded = []string{
	"reconciler.v1.ReconcilerService/PollSource", "reconciler.v1.ReconcilerService/SweepSource", "reconciler.v1.ReconcilerService/ReplayDeadLetters", "reconciler.v1.ReconcilerService/DiscardDeadLetters",
}

// lostAnswers is a server of all methods that does what is asked, and whose answers are lost.
type lostAnswers struct {
	mu      sync.Mutex
	calls   map[string]int
	bounded map[string]bool
}

func (l *lostAnswers) handle(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[method]++
	_, l.bounded[method] = stream.Context().Deadline()
	return status.Error(codes.Unavailable, "the connection was lost")
}

func TestOnlyWhatTellsTheSameTheSecondTimeIsTriedAgain(t *testing.T) {
	service := &lostAnswers{calls: map[string]int{}, bounded: map[string]bool{}}
	server := grpc.NewServer(grpc.UnknownServiceHandler(service.handle))
	healthpb.RegisterHealthServer(server, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving, asking sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	for _, method := range allMethods() {
		asking.Go(func() { // over a connection of its own: with many failures the retry budget is used up
			conn, err := rpc.Dial(l.Addr().String(), nil, telemetry.Nop())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := conn.Invoke(undated{ctx}, "/hookmesh."+method, &emptypb.Empty{}, proto.Message(&emptypb.Empty{})); status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", method, err)
			}
		})
	}
	asking.Wait()
	server.Stop()
	serving.Wait()
	for _, method := range allMethods() {
		name, want := method[strings.LastIndexByte(method, '/')+1:], 1
		reads := strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || strings.HasPrefix(name, "Lookup")
		if reads || slices.Contains(repeatable, method) {
			want = 3
		}
		if got := service.calls["/hookmesh."+method]; got != want {
			t.Errorf("%s was tried %d times, want %d", method, got, want)
		}
		if bounded := service.bounded["/hookmesh."+method]; bounded == slices.Contains(unbounded, method) {
			t.Errorf("%s has a deadline of its own: %v", method, bounded)
		}
	}
}

// undated is a caller without a deadline, who goes away nevertheless.
type undated struct{ context.Context }

func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }

// allMethods are those that one service asks of another, except for streams.
func allMethods() (names []string) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				short, ours := strings.CutPrefix(string(service.FullName())+"/"+string(method.Name()), "hookmesh.")
				if ours && !method.IsStreamingServer() && !strings.HasPrefix(short, "gateway.") {
					names = append(names, short)
				}
			}
		}
		return true
	})
	return names
}
