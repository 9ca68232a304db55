package rpc

import (
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	_ "google.golang.org/grpc/health" // the client's side of healthCheckConfig
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// serviceConfig spreads calls over all addresses of a name that say they are healthy, bounds each call, and tries again what fails with
// UNAVAILABLE, at most while nine of ten calls succeed (the retry budget). gRPC says UNAVAILABLE also when a connection is lost after the call
// was sent, and services say it when their database's is: then it may have been done. So only what may be asked twice is tried again. A call that
// never left this process is sent elsewhere in any case.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": ""},
	"methodConfig": [{
		"name": [{}],
		"timeout": "10s",
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
	}, {
		"name": [%s],
		"timeout": "10s"
	}, {
		"name": [%s]
	}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1}
}`

// Changes are guarded, so that none is done twice. But these tell what this very call has done: a second try, after the first was done and its
// answer lost, would tell of a success that there was nothing to do (ALREADY_EXISTS, NOT_FOUND, ABORTED, a count of 0).
var once = []string{
	"hookmesh.source.v1.SourceService/CreateSource", "hookmesh.source.v1.SourceService/UpdateSource", "hookmesh.source.v1.SourceService/DeleteSource",
	"hookmesh.source.v1.SourceService/RotateSecret", "hookmesh.dedupe.v1.DedupeService/ForgetKey", "hookmesh.sequencer.v1.SequencerService/SkipGap",
	"hookmesh.reconciler.v1.ReconcilerService/WriteOffDebts",
}

// These take as long as they take, and end with their caller. The changes among them also tell what they have done; a poll and a sweep say UNAVAILABLE of
// the source too, which must not be asked three times for it.
var unbounded = []string{
	"hookmesh.source.v1.SourceService/WatchSources",
	"hookmesh.reconciler.v1.ReconcilerService/PollSource", "hookmesh.reconciler.v1.ReconcilerService/SweepSource",
	"hookmesh.reconciler.v1.ReconcilerService/ReplayDeadLetters", "hookmesh.reconciler.v1.ReconcilerService/DiscardDeadLetters",
}

// methods names methods as a service config does.
func methods(names []string) string {
	var out []string
	for _, name := range names {
		service, method, _ := strings.Cut(name, "/")
		out = append(out, fmt.Sprintf(`{"service": %q, "method": %q}`, service, method))
	}
	return strings.Join(out, ", ")
}

// Dial connects to a service: to host:port or to every address that a DNS name has, or, if commas separate several of them, to all of
// those. files, if not nil, are what both sides prove themselves with; more may show who calls (see access.AsService).
func Dial(addr string, files *tlsfiles.Source, tel telemetry.Telemetry, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(clientCredentials(files)),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(serviceConfig, methods(once), methods(unbounded))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		// A peer that is frozen or cut off answers no ping; its calls go to the others then.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		// A peer that comes back is used again soon, not after the default's two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 3 * time.Second, Backoff: backoff.Config{
			BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}}),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(instrumentation(tel)...)),
	}
	target := "dns:///" + addr
	if strings.Contains(addr, ",") {
		target = "static:///services"
		opts = append(opts, grpc.WithResolvers(static(strings.Split(addr, ","))))
	}
	conn, err := grpc.NewClient(target, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

// static resolves to fixed addresses. Each names the server whose certificate is wanted there.
func static(addrs []string) resolver.Builder {
	r := manual.NewBuilderWithScheme("static")
	var state resolver.State
	for _, addr := range addrs {
		addr = strings.TrimSpace(addr)
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr, ServerName: addr}}})
	}
	r.InitialState(state)
	return r
}
