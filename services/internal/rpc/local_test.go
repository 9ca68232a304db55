package rpc_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/rpc"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dedupe answers by the id that it is asked for.
type dedupe struct {
	dedupev1.UnimplementedDedupeServiceServer
	mu   sync.Mutex
	seen *dedupev1.GetEventRequest
	span trace.SpanContext
}

// last is the newest call.
func (d *dedupe) last() (*dedupev1.GetEventRequest, trace.SpanContext) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen, d.span
}

func (d *dedupe) GetEvent(ctx context.Context, req *dedupev1.GetEventRequest) (*dedupev1.GetEventResponse, error) {
	d.mu.Lock()
	d.seen, d.span = req, trace.SpanContextFromContext(ctx)
	d.mu.Unlock()
	switch req.GetId() {
	case "panic":
		panic("s3cret")
	case "broken":
		return nil, errors.New("s3cret")
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "absent":
		return nil, status.Error(codes.NotFound, "no such event")
	}
	return &dedupev1.GetEventResponse{Event: &dedupev1.EventRecord{Id: req.GetId()}}, nil
}

// connections returns a client inside the process and one over the network, to the same service.
func connections(t *testing.T, d *dedupe, tel telemetry.Telemetry) map[string]dedupev1.DedupeServiceClient {
	t.Helper()
	return connectionsThrough(t, d, nil, tel)
}

// connectionsThrough does the same with a gate before the network.
func connectionsThrough(t *testing.T, d *dedupe, gate *access.Gate, tel telemetry.Telemetry, more ...grpc.DialOption) map[string]dedupev1.DedupeServiceClient {
	t.Helper()
	server, err := rpc.NewServer(nil, gate, tel)
	if err != nil {
		t.Fatal(err)
	}
	dedupev1.RegisterDedupeServiceServer(server, d)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	remote, err := rpc.Dial(l.Addr().String(), nil, tel, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = remote.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return map[string]dedupev1.DedupeServiceClient{
		"inside the process": dedupev1.NewDedupeServiceClient(server.Local()),
		"over the network":   dedupev1.NewDedupeServiceClient(remote),
	}
}

func TestACallerCannotTellWhetherAServiceIsInItsProcess(t *testing.T) {
	for how, client := range connections(t, &dedupe{}, telemetry.Nop()) {
		for id, want := range map[string]codes.Code{
			"known": codes.OK, "absent": codes.NotFound, "panic": codes.Internal, "broken": codes.Internal, "": codes.InvalidArgument,
		} {
			res, err := client.GetEvent(t.Context(), &dedupev1.GetEventRequest{Id: id})
			if got := status.Code(err); got != want {
				t.Errorf("%s, id %q: %v, want %v", how, id, err, want)
			}
			if want == codes.OK && res.GetEvent().GetId() != id {
				t.Errorf("%s: %v", how, res)
			}
			if want == codes.Internal && (err == nil || status.Convert(err).Message() == "s3cret") {
				t.Errorf("%s: the caller reads what belongs into the log: %v", how, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := client.GetEvent(ctx, &dedupev1.GetEventRequest{Id: "slow"}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: %v, want DEADLINE_EXCEEDED", how, err)
		}
		cancel()
	}
}

func TestACallInsideTheProcessEndsByItselfWithoutADeadline(t *testing.T) {
	server, err := rpc.NewServer(nil, nil, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		dedupev1.RegisterDedupeServiceServer(server, &dedupe{})
		began := time.Now()
		_, err := dedupev1.NewDedupeServiceClient(server.Local()).GetEvent(t.Context(), &dedupev1.GetEventRequest{Id: "slow"})
		if status.Code(err) != codes.DeadlineExceeded || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestAServiceHasAMessageOfItsOwnAndContinuesTheTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tel := telemetry.Telemetry{Logger: slog.New(slog.DiscardHandler), MeterProvider: noop.NewMeterProvider(), TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))}
	d := &dedupe{}
	for how, client := range connections(t, d, tel) {
		spans.Reset()
		ctx, span := tel.Tracer("test").Start(t.Context(), "caller")
		req := &dedupev1.GetEventRequest{Id: "known"}
		if _, err := client.GetEvent(ctx, req, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		span.End()
		seen, under := d.last()
		if seen == req {
			t.Errorf("%s: the service got the caller's own message", how)
		}
		if under.TraceID() != span.SpanContext().TraceID() || under.SpanID() == span.SpanContext().SpanID() {
			t.Errorf("%s: the service runs under %v, the caller under %v", how, under, span.SpanContext())
		}
	}
}
