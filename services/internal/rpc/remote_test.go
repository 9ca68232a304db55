package rpc_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka/kafkatest"
	"github.com/hookmesh/hookmesh/services/internal/rpc"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// counting answers every call and counts them.
type counting struct {
	dedupev1.UnimplementedDedupeServiceServer
	mu    sync.Mutex
	calls int
}

func (c *counting) GetEvent(context.Context, *dedupev1.GetEventRequest) (*dedupev1.GetEventResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	return &dedupev1.GetEventResponse{}, nil
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// serveOne serves a service on a port of its own; stop drains it.
func serveOne(t *testing.T, files *tlsfiles.Source, service dedupev1.DedupeServiceServer) (addr string, server *rpc.Server, stop func()) {
	t.Helper()
	server, err := rpc.NewServer(files, nil, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	dedupev1.RegisterDedupeServiceServer(server, service)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(ctx, l) })
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return l.Addr().String(), server, stop
}

func ask(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := dedupev1.NewDedupeServiceClient(conn).GetEvent(ctx, &dedupev1.GetEventRequest{Id: "e"})
	return err
}

func dial(t *testing.T, addr string, files *tlsfiles.Source) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(addr, files, telemetry.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestCallsAreSpreadOverSeveralAddressesAndOutliveTheDrainOfOne(t *testing.T) {
	var one, two counting
	addrOne, _, stopOne := serveOne(t, nil, &one)
	addrTwo, _, _ := serveOne(t, nil, &two)
	conn := dial(t, addrOne+", "+addrTwo, nil)
	for end := time.Now().Add(10 * time.Second); (one.count() == 0 || two.count() == 0) && time.Now().Before(end); {
		if err := ask(t, conn); err != nil {
			t.Fatal(err)
		}
	}
	if one.count() == 0 || two.count() == 0 {
		t.Fatalf("calls went to one only: %d, %d", one.count(), two.count())
	}
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		stopOne()
		if d := time.Since(began); d > 4*time.Second {
			t.Errorf("the drain took %s: it waited for somebody who only watches", d)
		}
	})
	for range 500 { // while one drains and after
		if err := ask(t, conn); err != nil {
			t.Fatalf("a call failed because of the drain: %v", err)
		}
	}
	wg.Wait()
}

func openFiles(t *testing.T, dir string) *tlsfiles.Source {
	t.Helper()
	files, err := tlsfiles.Open(tlsfiles.Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestServicesKnowEachOtherByCertificatesThatMayChangeWhileTheyRun(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	kafkatest.WriteCertificates(t, dir)
	kafkatest.WriteCertificates(t, other)
	files := openFiles(t, dir)
	addr, _, _ := serveOne(t, files, &counting{})
	for _, target := range []string{addr, addr + "," + addr} {
		if err := ask(t, dial(t, target, files)); err != nil {
			t.Errorf("%s with our own certificate: %v", target, err)
		}
	}
	if err := ask(t, dial(t, addr, nil)); err == nil {
		t.Error("a caller without TLS was let in")
	}
	if err := ask(t, dial(t, addr, openFiles(t, other))); err == nil {
		t.Error("a caller of another authority was let in")
	}

	kafkatest.WriteCertificates(t, dir) // a new authority, new certificates
	later := time.Now().Add(time.Minute)
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		if err := os.Chtimes(filepath.Join(dir, name), later, later); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(t, dial(t, addr, openFiles(t, dir))); err != nil {
		t.Errorf("with the new certificates, and a server that was not restarted: %v", err)
	}
}

func TestOnlyTheOperatorsPortTellsWhatServicesThereAre(t *testing.T) {
	addr, server, _ := serveOne(t, nil, &counting{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	admin := &http.Server{Handler: server.Introspection(), Protocols: &protocols, ReadHeaderTimeout: time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = admin.Serve(l) })
	defer wg.Wait()
	defer func() { _ = admin.Close() }()
	list := func(addr string) (string, error) {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return "", err
		}
		// An error of the sending side only says that the answer is there already.
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		res, err := stream.Recv()
		return res.String(), err
	}
	if _, err := list(addr); status.Code(err) != codes.Unimplemented {
		t.Errorf("the services' port answers reflection: %v", err)
	}
	if names, err := list(l.Addr().String()); err != nil || !strings.Contains(names, "hookmesh.dedupe.v1.DedupeService") {
		t.Errorf("%q, %v", names, err)
	}
}
