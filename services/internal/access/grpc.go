package access

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// open are the calls that nobody has to prove anything for.
var open = map[string]bool{
	"/hookmesh.gateway.v1.GatewayService/ReceiveWebhook": true, // the delivery's signature speaks for it
	"/grpc.health.v1.Health/Check":                       true,
	"/grpc.health.v1.Health/Watch":                       true,
	"/grpc.health.v1.Health/List":                        true,
}

// internal are the calls that only services make: they carry other people's secrets, or could be used to try them out.
var internal = map[string]bool{
	"/hookmesh.verifier.v1.VerifierService/Verify":      true,
	"/hookmesh.verifier.v1.VerifierService/VerifyBatch": true,
	"/hookmesh.verifier.v1.VerifierService/Understand":  true,
	"/hookmesh.source.v1.SourceService/WatchSources":    true,
}

// sources is the service whose changes need IngestAdmin.
const sources = "/hookmesh.source.v1.SourceService/"

// NeedOf is the scope that a gRPC method needs; empty: none. What only reads is told by its name; everything else is a change.
func NeedOf(method string) Scope {
	name := method[strings.LastIndexByte(method, '/')+1:]
	switch {
	case open[method]:
		return ""
	case internal[method]:
		return Service
	case strings.HasPrefix(name, "Get"), strings.HasPrefix(name, "List"), strings.HasPrefix(name, "Lookup"), name == "Search", name == "Check":
		return Read
	case strings.HasPrefix(method, sources):
		return IngestAdmin
	}
	return Operate
}

// Unary checks the callers of unary methods.
func (g *Gate) Unary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		p, err := g.admit(ctx, log, info.FullMethod)
		if err != nil {
			return nil, err
		}
		res, err := next(ctx, req)
		g.record(ctx, log, p, info.FullMethod, err)
		return res, err
	}
}

// Stream checks the callers of streaming methods.
func (g *Gate) Stream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if _, err := g.admit(stream.Context(), log, info.FullMethod); err != nil {
			return err
		}
		return next(srv, stream)
	}
}

// admit says who calls, or why they may not.
func (g *Gate) admit(ctx context.Context, log *slog.Logger, method string) (Principal, error) {
	need := NeedOf(method)
	if need == "" {
		return anonymous, nil
	}
	if p, ok := certified(ctx); ok {
		return p, nil
	}
	header := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		header = Credential(md.Get("authorization"))
	}
	p, err := g.Authorize(ctx, header, need)
	if err == nil {
		return p, nil
	}
	log.WarnContext(ctx, "a call was refused", "method", method, "principal", p.Name, "needs", need, "error", err)
	switch {
	case errors.Is(err, ErrDenied):
		g.record(ctx, log, p, method, status.Error(codes.PermissionDenied, ""))
		return p, status.Error(codes.PermissionDenied, ErrDenied.Error()+": "+string(need))
	case errors.Is(err, ErrUnavailable):
		return p, status.Error(codes.Unavailable, ErrUnavailable.Error())
	}
	return p, status.Error(codes.Unauthenticated, ErrUnauthenticated.Error())
}

// certified is the service at the other end of a connection whose certificate was checked. Services may ask for everything.
func certified(ctx context.Context) (Principal, bool) {
	pr, ok := peer.FromContext(ctx)
	if !ok {
		return Principal{}, false
	}
	info, ok := pr.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return Principal{}, false
	}
	return Principal{Name: "service:" + info.State.VerifiedChains[0][0].Subject.CommonName, Scopes: anonymous.Scopes}, true
}

// record writes changes into the audit log. What services ask of each other is not one of them.
func (g *Gate) record(ctx context.Context, log *slog.Logger, p Principal, method string, err error) {
	if need := NeedOf(method); need == "" || need == Read || need == Service || strings.HasPrefix(p.Name, "service:") {
		return
	}
	remote := ""
	if pr, ok := peer.FromContext(ctx); ok && pr.Addr != nil {
		remote = pr.Addr.String()
	}
	Audit(ctx, log, p, method, status.Code(err).String(), "remote", remote)
}

// token is how a service proves itself to others without a certificate.
type token string

var _ credentials.PerRPCCredentials = token("")

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: inside a private network the token may go without TLS.
func (token) RequireTransportSecurity() bool { return false }

// AsService makes a connection show that its caller is a service; secret is the one that all services share. Empty: it shows nothing.
func AsService(secret string) []grpc.DialOption {
	if secret == "" {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(token(serviceToken(secret)))}
}
