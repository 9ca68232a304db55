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

// serviceConfig spreads calls over all addresses of a name that say they are healthy, bounds each call, and tries again what was not done, or
// may be done twice (a service says UNAVAILABLE of nothing else), at most while nine of ten calls succeed (the retry budget). What is followed has no timeout.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": ""},
	"methodConfig": [{
		"name": [{}],
		"timeout": "10s",
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
	}, {
		"name": [{"service": "hookmesh.source.v1.SourceService", "method": "WatchSources"}]
	}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1}
}`

// Dial connects to a service: to host:port or to every address that a DNS name has, or, if commas separate several of them, to all of
// those. files, if not nil, are what both sides prove themselves with; more may show who calls (see access.AsService).
func Dial(addr string, files *tlsfiles.Source, tel telemetry.Telemetry, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(clientCredentials(files)),
		grpc.WithDefaultServiceConfig(serviceConfig),
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
