package topology

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Edge ends TLS and hands requests to the gateways in turn, as the proxy in front of them does in production. A gateway that cannot be
// reached is passed over; one that breaks off in the middle is a 502, since the request may have had its effect.
type Edge struct {
	// URL is where senders deliver.
	URL    string
	server *http.Server
	roots  *x509.CertPool
	wg     sync.WaitGroup
}

// brokenOff is the header of the proxy's own answers: a gateway has none like it.
const brokenOff = "Test-Proxy-Broken-Off"

// StartEdge starts the proxy.
func StartEdge(gateways []string) (*Edge, error) {
	cert, roots, err := selfSigned()
	if err != nil {
		return nil, err
	}
	listen, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", gateways[0]
			r.SetXForwarded()
		},
		Transport: &turns{gateways: gateways, next: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}},
		ErrorLog:  log.New(io.Discard, "", 0), // senders see the 502
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set(brokenOff, "yes")
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	e := &Edge{URL: "https://" + listen.Addr().String(), roots: roots, server: &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second, ErrorLog: proxy.ErrorLog}}
	e.wg.Go(func() { _ = e.server.Serve(listen) })
	return e, nil
}

// Client is an HTTP client that trusts the proxy.
func (e *Edge) Client(connections int) *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: e.roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
	}}
}

// Gateways is an HTTP client that spreads requests over the gateways themselves, whatever host they name.
func (m *Mesh) Gateways(connections int) *http.Client {
	t := &turns{next: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
	for _, in := range m.Of("gateway") {
		t.gateways = append(t.gateways, in.HTTP)
	}
	return &http.Client{Timeout: 15 * time.Second, Transport: t}
}

// Close stops the proxy.
func (e *Edge) Close() {
	_ = e.server.Close()
	e.wg.Wait()
}

// turns sends requests to the gateways in turn.
type turns struct {
	gateways []string
	next     *http.Transport
	n        atomic.Uint64
}

// RoundTrip implements http.RoundTripper.
func (t *turns) RoundTrip(r *http.Request) (*http.Response, error) {
	start := t.n.Add(1)
	var err error
	for i := range t.gateways {
		try := r.Clone(r.Context())
		try.URL.Host = t.gateways[(start+uint64(i))%uint64(len(t.gateways))]
		var res *http.Response
		if res, err = t.next.RoundTrip(try); err == nil {
			return res, nil
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" {
			return nil, err // the body may be gone, and the request may have had its effect
		}
	}
	return nil, err
}

func selfSigned() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}

// WriteCertificate writes a certificate for 127.0.0.1 that vouches for itself into dir: cert.pem and key.pem.
func WriteCertificate(dir string) error {
	cert, _, err := selfSigned()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
}
