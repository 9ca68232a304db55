package sources_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

// issue returns certificate and key in PEM.
func (a *authority) issue(name string, serial int64) (cert, key []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestTheEdgeLooksAtAddressesAndClientCertificates(t *testing.T) {
	ours, stranger := newAuthority(t, "ours"), newAuthority(t, "a stranger's")
	dir := t.TempDir()
	cert, key := ours.issue("edge", 10)
	certFile, keyFile := write(t, filepath.Join(dir, "cert.pem"), cert), write(t, filepath.Join(dir, "key.pem"), key)
	edge, admin := freeAddress(t), freeAddress(t)
	m := &mesh.Mesh{TB: t, Dir: dir, HTTP: "https://" + edge, Admin: "http://" + admin}
	write(t, filepath.Join(dir, "config.yaml"), fmt.Appendf(nil, `
http:
  listen: %q
  tls: {cert_file: %q, key_file: %q, client_ca_file: %q}
  trusted_proxies: [127.0.0.1]
grpc: {listen: ""}
admin: {listen: %q}
data_dir: %q
sources:
  - {name: office, preset: generic-hmac, unsigned: true, allow_from: [192.0.2.0/24], content: {fetch: "https://127.0.0.1:1/{document_id}"}}
  - {name: partner, preset: generic-hmac, unsigned: true, client_certificates: [partner.example], content: {fetch: "https://127.0.0.1:1/{document_id}"}}
`, edge, certFile, keyFile, write(t, filepath.Join(dir, "ca.pem"), ours.pem()), admin, filepath.Join(dir, "data")))
	m.Up()
	t.Cleanup(m.Kill)

	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	var serial string
	post := func(source, forwarded string, by *authority, name string) (int, string, error) {
		cfg := &tls.Config{RootCAs: roots}
		if by != nil {
			pair, err := tls.X509KeyPair(by.issue(name, 20))
			if err != nil {
				t.Fatal(err)
			}
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}, Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/webhooks/"+source, bytes.NewReader([]byte(`{"document_id":"a","action":"updated"}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if forwarded != "" {
			req.Header.Set("X-Forwarded-For", forwarded)
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		serial = res.TLS.PeerCertificates[0].SerialNumber.String()
		raw, err := io.ReadAll(res.Body)
		return res.StatusCode, string(raw), errors.Join(err, res.Body.Close())
	}
	tests := []struct {
		name, source, forwarded string
		by                      *authority
		as                      string
		status                  int // 0: the handshake fails
		code                    string
	}{
		{"an allowed address", "office", "192.0.2.5", nil, "", 202, ""},
		{"another address", "office", "203.0.113.1", nil, "", 403, "ADDRESS_NOT_ALLOWED"},
		{"an allowed address that the client made up", "office", "192.0.2.5, 203.0.113.1", nil, "", 403, "ADDRESS_NOT_ALLOWED"},
		{"the proxy itself", "office", "", nil, "", 403, "ADDRESS_NOT_ALLOWED"},
		{"the right certificate", "partner", "", ours, "partner.example", 202, ""},
		{"a certificate of another name", "partner", "", ours, "other.example", 403, "CERTIFICATE_NOT_ALLOWED"},
		{"no certificate", "partner", "", nil, "", 403, "CERTIFICATE_NOT_ALLOWED"},
		{"a stranger's certificate", "partner", "", stranger, "partner.example", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body, err := post(tt.source, tt.forwarded, tt.by, tt.as)
			if status != tt.status || (err != nil) != (tt.status == 0) || !strings.Contains(body, tt.code) {
				t.Errorf("%d %s %v, want %d %s", status, body, err, tt.status, tt.code)
			}
		})
	}
	// A certificate that is renewed on disk is shown from the next handshake on.
	cert, key = ours.issue("edge", 11)
	write(t, certFile, cert)
	write(t, keyFile, key)
	if _, _, err := post("partner", "", ours, "partner.example"); err != nil || serial != "11" {
		t.Errorf("after the renewal the edge shows certificate %s, %v", serial, err)
	}
}
