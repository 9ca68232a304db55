package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// clientCredentials read the files at each handshake, so that renewed ones count without a restart; nil: no TLS.
func clientCredentials(files *tlsfiles.Source) credentials.TransportCredentials {
	if files == nil {
		return insecure.NewCredentials()
	}
	return fileCredentials{files}
}

// fileCredentials are TLS credentials made anew for each connection.
type fileCredentials struct{ files *tlsfiles.Source }

// ClientHandshake implements credentials.TransportCredentials.
func (c fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	return credentials.NewTLS(c.files.Client(host)).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements credentials.TransportCredentials; servers have credentials of their own.
func (fileCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, net.ErrClosed
}

// Info implements credentials.TransportCredentials.
func (fileCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c fileCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials; the files say what they want.
func (fileCredentials) OverrideServerName(string) error { return nil }
