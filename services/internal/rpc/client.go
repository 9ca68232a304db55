package rpc

import (
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// serviceConfig spreads calls over all addresses of a name and tries again what surely was not done. What is followed has no timeout.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{
		"name": [{}],
		"timeout": "10s",
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
	}, {
		"name": [{"service": "hookmesh.source.v1.SourceService", "method": "WatchSources"}]
	}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1}
}`

// Dial connects to host:port, or to every address that a DNS name has.
func Dial(addr string, tel telemetry.Telemetry) (*grpc.ClientConn, error) {
	target := "dns:///" + addr
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(instrumentation(tel)...)),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return conn, nil
}
