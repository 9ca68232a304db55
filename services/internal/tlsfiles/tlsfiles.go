// Package tlsfiles makes TLS configurations out of PEM files and follows the files: a certificate that was renewed on disk is
// used from the next handshake on, without a restart.
package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Files names the files of one side of a connection.
type Files struct {
	// CA holds the certificates that the other side's must descend from; empty: those of the system.
	CA string
	// Cert and Key are our own certificate with its chain, and its key. A server needs both, a client only if it is asked for them.
	Cert, Key string
	// ServerName is what the server's certificate must say, if it is not the host that is dialed.
	ServerName string
}

// Source is what was read from the files, kept up to date. Safe for concurrent use.
type Source struct {
	files Files
	// failed is told when changed files cannot be read; the old certificates stay in use.
	failed func(error)

	mu    sync.Mutex
	stamp [3]stamp
	cert  *tls.Certificate
	roots *x509.CertPool
}

// stamp tells whether a file changed.
type stamp struct {
	at   time.Time
	size int64
}

// Open reads the files. failed, if not nil, is told when a later change cannot be read.
func Open(files Files, failed func(error)) (*Source, error) {
	s := &Source{files: files, failed: failed}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("a certificate and its key belong together: name both files, or neither")
	}
	s.stamp = s.stamps()
	cert, roots, err := s.read()
	if err != nil {
		return nil, err
	}
	s.cert, s.roots = cert, roots
	return s, nil
}

// Client is the configuration for one connection to host: it verifies the server against today's authorities and shows today's
// certificate, if there is one. Ask for a new one for each connection.
func (s *Source) Client(host string) *tls.Config {
	cert, roots := s.current()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots}
	if s.files.ServerName != "" {
		cfg.ServerName = s.files.ServerName
	}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return cfg
}

// DialContext connects to host:port and shakes hands.
func (s *Source) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	dialer := tls.Dialer{Config: s.Client(host)}
	return dialer.DialContext(ctx, network, address)
}

// Server is the configuration of a server that lets only clients in whose certificates descend from CA.
func (s *Source) Server(protocols ...string) (*tls.Config, error) {
	if s.cert == nil || s.files.CA == "" {
		return nil, errors.New("a server needs a certificate, its key, and the authority of its clients")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots := s.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{*cert},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
			}, nil
		},
	}, nil
}

// Edge is the configuration of a server that everybody may connect to. If there is a CA, a client may show a certificate, which must
// then descend from it.
func (s *Source) Edge(protocols ...string) (*tls.Config, error) {
	if s.cert == nil {
		return nil, errors.New("a server needs a certificate and its key")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots := s.current()
			cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{*cert}}
			if roots != nil {
				cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, roots
			}
			return cfg, nil
		},
	}, nil
}

// NotAfter is when our certificate ends; zero: there is none.
func (s *Source) NotAfter() time.Time {
	cert, _ := s.current()
	if cert == nil || cert.Leaf == nil {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}

// current returns what the files hold now.
func (s *Source) current() (*tls.Certificate, *x509.CertPool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.stamps()
	if now == s.stamp {
		return s.cert, s.roots
	}
	cert, roots, err := s.read()
	if err != nil {
		// Perhaps only one of two files was replaced yet: the next handshake looks again.
		if s.failed != nil {
			s.failed(err)
		}
		return s.cert, s.roots
	}
	s.stamp, s.cert, s.roots = now, cert, roots
	return cert, roots
}

func (s *Source) stamps() (stamps [3]stamp) {
	for i, name := range []string{s.files.CA, s.files.Cert, s.files.Key} {
		if info, err := os.Stat(name); name != "" && err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}

func (s *Source) read() (*tls.Certificate, *x509.CertPool, error) {
	var cert *tls.Certificate
	if s.files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("read certificate %s and key %s: %w", s.files.Cert, s.files.Key, err)
		}
		cert = &pair
	}
	if s.files.CA == "" {
		return cert, nil, nil
	}
	pem, err := os.ReadFile(s.files.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%s holds no certificate in PEM", s.files.CA)
	}
	return cert, roots, nil
}
