//go:build caddy

// Package proxy_test sends requests through the deployed proxy.
package proxy_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// gateway is one of the two behind the proxy; it counts what reaches it.
type gateway struct {
	*httptest.Server
	requests atomic.Int64
}

func startGateway(t *testing.T) *gateway {
	g := &gateway{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g.requests.Add(1)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("X-Signature") + " " + string(body)))
	}))
	t.Cleanup(g.Close)
	return g
}

// What stands between senders and gateways must not change a byte that is signed, must not show the API, and must not lose a delivery because
// one of the gateways is gone.
func TestTheDeployedProxyPassesWebhooksOnAndNothingElse(t *testing.T) {
	first, second := startGateway(t), startGateway(t)
	proxy := startCaddy(t, first.Listener.Addr().String(), second.Listener.Addr().String())
	body := strings.Repeat(`{"a": "ä\u0000 "}`+"\n", 10_000)
	send := func(method, path string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, proxy+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Signature", "sha256=00")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(raw), res.Header
	}
	for range 10 {
		code, got, header := send(http.MethodPost, "/webhooks/docs?x=a%2Fb&y=1+2")
		if want := "POST /webhooks/docs?x=a%2Fb&y=1+2 sha256=00 " + body; code != http.StatusAccepted || got != want || header.Get("Retry-After") != "7" {
			t.Fatalf("a delivery came through as %d, %.200q, %v", code, got, header)
		}
	}
	if first.requests.Load() == 0 || second.requests.Load() == 0 {
		t.Errorf("the gateways got %d and %d deliveries", first.requests.Load(), second.requests.Load())
	}
	for _, path := range []string{"/", "/v1/sources", "/openapi.json", "/webhooks", "/metrics", "/webhooks/../v1/sources", "/webhooks/%2e%2e/v1/sources"} {
		before := first.requests.Load() + second.requests.Load()
		if code, got, _ := send(http.MethodGet, path); code != http.StatusNotFound || first.requests.Load()+second.requests.Load() != before {
			t.Errorf("%s is open to the world: %d, %.100q", path, code, got)
		}
	}
	first.Close()
	for range 10 {
		if code, _, _ := send(http.MethodPost, "/webhooks/docs"); code != http.StatusAccepted {
			t.Errorf("a delivery got %d while one of two gateways was gone", code)
		}
	}
}

// startCaddy runs the deployed file over plain HTTP on a free port, with two addresses of this machine in the gateways' places.
func startCaddy(t *testing.T, first, second string) string {
	t.Helper()
	binary := os.Getenv("HOOKMESH_TEST_CADDY")
	if binary == "" {
		t.Fatal("HOOKMESH_TEST_CADDY does not name Caddy's program: make check-deploy builds it")
	}
	raw, err := os.ReadFile("../../../deploy/caddy/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	config := "{\n\tadmin off\n}\n" + strings.NewReplacer("gateway-1:8080", first, "gateway-2:8080", second).Replace(string(raw))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--adapter", "caddyfile", "--config", file)
	cmd.Env = append(os.Environ(), "HOOKMESH_HOST=http://"+address, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("Caddy ended: %v\n%s", err, out.String())
		}
	})
	for end := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
			return "http://" + address
		}
		if time.Now().After(end) {
			t.Fatalf("Caddy does not listen: %v", err)
		}
	}
}
