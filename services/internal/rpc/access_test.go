package rpc_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// ForgetKey implements the API.
func (d *dedupe) ForgetKey(context.Context, *dedupev1.ForgetKeyRequest) (*dedupev1.ForgetKeyResponse, error) {
	return &dedupev1.ForgetKeyResponse{Forgotten: true}, nil
}

// lines is a log that several goroutines write.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestCallersOverTheNetworkAreAskedAndThoseInTheProcessAreNot(t *testing.T) {
	reader, operator := access.NewKey(), access.NewKey()
	const shared = "a secret that all services share"
	gate, err := access.New(access.Config{ServiceSecret: shared, Keys: []access.Key{
		{Name: "reader", Hash: access.HashOf(reader), Scopes: []access.Scope{access.Read}},
		{Name: "operator", Hash: access.HashOf(operator), Scopes: []access.Scope{access.Operate}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	tel := telemetry.Nop()
	tel.Logger = slog.New(slog.NewTextHandler(log, nil))
	all := connectionsThrough(t, &dedupe{}, gate, tel)
	service := connectionsThrough(t, &dedupe{}, gate, tel, access.AsService(shared)...)["over the network"]
	impostor := connectionsThrough(t, &dedupe{}, gate, tel, access.AsService("another secret")...)["over the network"]
	remote, local := all["over the network"], all["inside the process"]
	with := func(key string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	}
	get := func(ctx context.Context, c dedupev1.DedupeServiceClient) codes.Code {
		_, err := c.GetEvent(ctx, &dedupev1.GetEventRequest{Id: "known"})
		return status.Code(err)
	}
	forget := func(ctx context.Context, c dedupev1.DedupeServiceClient) codes.Code {
		_, err := c.ForgetKey(ctx, &dedupev1.ForgetKeyRequest{Source: "docs", IdempotencyKey: "k"})
		return status.Code(err)
	}
	for name, got := range map[string][2]codes.Code{
		"reading without a key":          {get(t.Context(), remote), codes.Unauthenticated},
		"reading with two":               {get(metadata.AppendToOutgoingContext(with(reader), "authorization", "Bearer "+operator), remote), codes.Unauthenticated},
		"reading with one":               {get(with(reader), remote), codes.OK},
		"a change by a reader":           {forget(with(reader), remote), codes.PermissionDenied},
		"a change by an operator":        {forget(with(operator), remote), codes.OK},
		"a change by a service":          {forget(t.Context(), service), codes.OK},
		"by one that only seems to be":   {forget(t.Context(), impostor), codes.Unauthenticated},
		"a change within the process":    {forget(t.Context(), local), codes.OK},
		"reading with a key that's gone": {get(with(access.NewKey()), remote), codes.Unauthenticated},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %s, want %s", name, got[0], got[1])
		}
	}
	text := log.String()
	for _, want := range []string{"principal=key:operator action=/hookmesh.dedupe.v1.DedupeService/ForgetKey outcome=OK remote=", "principal=key:reader action=/hookmesh.dedupe.v1.DedupeService/ForgetKey outcome=PermissionDenied"} {
		if !strings.Contains(text, "audit=true "+want) {
			t.Errorf("the audit log lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, operator) {
		t.Error("a key is in the log")
	}
}
