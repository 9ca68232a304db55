package rpc

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// serviceConfig spreads calls over all addresses of a name and tries again what surely was not done.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{
		"name": [{}],
		"timeout": "10s",
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
	}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1}
}`

// NewPipe returns a listener inside the process and the way to dial it.
func NewPipe() *Pipe { return &Pipe{bufconn.Listen(1 << 20)} }

// Pipe is a listener inside the process.
type Pipe struct{ *bufconn.Listener }

// Dial connects to a server behind the pipe.
func (p *Pipe) Dial(tel telemetry.Telemetry) (*grpc.ClientConn, error) {
	return dial("passthrough:///in-process", tel, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return p.DialContext(ctx)
	}))
}

// Dial connects to host:port, or to every address that a DNS name has.
func Dial(addr string, tel telemetry.Telemetry) (*grpc.ClientConn, error) {
	return dial("dns:///"+addr, tel)
}

func dial(target string, tel telemetry.Telemetry, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(tel.TracerProvider), otelgrpc.WithMeterProvider(tel.MeterProvider),
			otelgrpc.WithPropagators(telemetry.Propagator()),
		)),
	}, more...)
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return conn, nil
}
