package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
)

func zip(t testing.TB, data string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func small(_ *gateway.Deps, c *gateway.Config) { c.MaxBodyBytes = 1 << 20 }

func TestBadInputGetsAnAnswerThatNamesIt(t *testing.T) {
	r := start(t, small)
	over := strings.Repeat("x", 1<<20+1)
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("X-H-%d: v", i)
	}
	for _, tc := range []struct {
		name    string
		path    string
		body    string
		headers []string
		status  int
		code    string
	}{
		{name: "a body of exactly the limit", body: over[1:], status: 202},
		{name: "a body over the limit", body: over, status: 413, code: "BODY_TOO_LARGE"},
		{name: "a gzip body", body: zip(t, "page"), headers: []string{"Content-Encoding: GZIP"}, status: 202},
		{name: "a gzip body of exactly the limit", body: zip(t, over[1:]), headers: []string{"Content-Encoding: gzip"}, status: 202},
		{name: "a gzip bomb", body: zip(t, strings.Repeat("\x00", 64<<20)), headers: []string{"Content-Encoding: gzip"}, status: 413, code: "BODY_TOO_LARGE"},
		{name: "a body that is no gzip", body: "page", headers: []string{"Content-Encoding: gzip"}, status: 400, code: "BODY_NOT_GZIP"},
		{name: "a cut gzip body", body: zip(t, "page")[:12], headers: []string{"Content-Encoding: gzip"}, status: 400, code: "BODY_NOT_GZIP"},
		{name: "gzip in gzip", body: zip(t, zip(t, "page")), headers: []string{"Content-Encoding: gzip, gzip"}, status: 415, code: "UNSUPPORTED_CONTENT_ENCODING"},
		{name: "brotli", body: "page", headers: []string{"Content-Encoding: br"}, status: 415, code: "UNSUPPORTED_CONTENT_ENCODING"},
		{name: "a header bomb", body: "page", headers: many, status: 431, code: "HEADERS_TOO_LARGE"},
		{name: "a wrong content type", body: "page", headers: []string{"Content-Type: image/png"}, status: 202},
		{name: "a malformed content type", body: "page", headers: []string{"Content-Type: ;;/"}, status: 202},
		{name: "a form", body: "a=b;c&%zz", headers: []string{"Content-Type: application/x-www-form-urlencoded"}, status: 202},
		{name: "a method override", body: "page", headers: []string{"X-HTTP-Method-Override: DELETE", "Content-Type: application/x-www-form-urlencoded"}, status: 202},
		{name: "a sender that wants to set a deadline", body: "page", headers: []string{"Grpc-Timeout: 1n"}, status: 202},
		{name: "a sender that wants to set metadata", body: "page", headers: []string{"Grpc-Metadata-X-Bin: ?", "Te: trailers"}, status: 202},
		{name: "a query that names fields", path: "/webhooks/docs?source=other&body.data=eA&method=PUT&zzz;", body: "page", status: 202},
		{name: "invalid UTF-8 in the query", path: "/webhooks/docs?\xff\xfe", body: "page", status: 202},
		{name: "dots in the source", path: "/webhooks/../docs", status: 404, code: "UNKNOWN_SOURCE"},
		{name: "escaped dots in the source", path: "/webhooks/%2e%2e%2fdocs", status: 404, code: "UNKNOWN_SOURCE"},
		{name: "a slash at the end", path: "/webhooks/docs/", status: 404, code: "UNKNOWN_SOURCE"},
		{name: "an escaped letter", path: "/webhooks/doc%73", status: 404, code: "UNKNOWN_SOURCE"},
		{name: "a name in capitals", path: "/webhooks/DOCS", status: 404, code: "UNKNOWN_SOURCE"},
		{name: "no name", path: "/webhooks/", status: 404, code: "UNKNOWN_SOURCE"},
		{name: "a very long name", path: "/webhooks/" + strings.Repeat("d", 5000), status: 404, code: "UNKNOWN_SOURCE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.path == "" {
				tc.path = "/webhooks/docs"
			}
			w := r.post(tc.path, tc.body, tc.headers...)
			if w.Code != tc.status {
				t.Fatalf("status %d, want %d: %.200s", w.Code, tc.status, w.Body)
			}
			if tc.code == "" {
				return
			}
			if b := parse(t, w.Body.Bytes()); b.Code != tc.code || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s, want %s", w.Body, tc.code)
			}
		})
	}
}

func TestAnEmptyBodyReachesTheVerifier(t *testing.T) {
	r := start(t)
	if w := r.post("/webhooks/docs", ""); w.Code != http.StatusAccepted && w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if req := r.verifier.last(); req == nil || len(req.GetBody()) != 0 {
		t.Errorf("%v", req)
	}
}

func TestEveryByteOfTheBodyReachesTheVerifier(t *testing.T) {
	r := start(t)
	body := make([]byte, 70_000)
	for i := range body {
		body[i] = byte(i * 7)
	}
	for _, kind := range []string{"", "application/json", "text/plain", "multipart/form-data; boundary=x"} {
		r.post("/webhooks/docs", string(body), "Content-Type: "+kind)
		if got := r.verifier.last().GetBody(); !bytes.Equal(got, body) {
			t.Errorf("%q: %d bytes, different", kind, len(got))
		}
	}
}

// listen serves the rig over TCP with short timeouts.
func listen(t *testing.T, r *rig) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = gateway.NewHTTPServer(r.handler, gateway.ServerConfig{ReadHeaderTimeout: 100 * time.Millisecond, ReadTimeout: 200 * time.Millisecond})
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// raw sends bytes and returns what comes back until the server closes or answers.
func raw(t *testing.T, address, request string) (status int, answer string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, request) }() // the server may close before all is read
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	data, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(data)
}

func TestConnectionsThatMisbehaveAreEnded(t *testing.T) {
	r := start(t, small)
	address := listen(t, r)
	for _, tc := range []struct {
		name, request string
		status        int
		code          string
	}{
		{"a body that never comes", "POST /webhooks/docs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", 408, "BODY_TOO_SLOW"},
		{"headers that never end", "POST /webhooks/docs HTTP/1.1\r\nHost: x\r\nX-A: ", 0, ""},
		{"headers of a megabyte", "POST /webhooks/docs HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", 431, ""},
		{"an announced body over the limit", "POST /webhooks/docs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc", 413, "BODY_TOO_LARGE"},
		{"a chunked body over the limit", "POST /webhooks/docs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + strings.Repeat("a", 0x200000) + "\r\n0\r\n\r\n", 413, "BODY_TOO_LARGE"},
		{"a chunked body", "POST /webhooks/docs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n", 202, ""},
		{"an absolute request target", "POST http://x/webhooks/docs HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\npage", 202, ""},
		{"dots in the path", "POST /webhooks/../webhooks/docs HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404, "UNKNOWN_SOURCE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			status, answer := raw(t, address, tc.request)
			if status != tc.status || !strings.Contains(answer, tc.code) {
				t.Errorf("%d %s, want %d %s", status, answer, tc.status, tc.code)
			}
		})
	}
}

func TestManySlowSendersHoldLittleMemoryAndAFullMemoryIsA429(t *testing.T) {
	r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.MaxBodyBytes, c.MaxBufferedBytes = 1<<20, 2<<20 })
	// Each holds its first 16 KiB: 100 of them are under 2 MiB, though they announce 100 MiB.
	var writers []*io.PipeWriter
	results := make(chan int, 200)
	for range 100 {
		reader, writer := io.Pipe()
		writers = append(writers, writer)
		req := httptest.NewRequest(http.MethodPost, "/webhooks/docs", reader)
		req.ContentLength = 1 << 20
		go func() { results <- r.do(req).Code }()
		if _, err := writer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if w := r.post("/webhooks/docs", strings.Repeat("x", 600<<10)); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, w := range writers {
		_ = w.CloseWithError(io.ErrUnexpectedEOF)
	}
	for range writers {
		if code := <-results; code != http.StatusBadRequest {
			t.Errorf("a cut body got %d", code)
		}
	}
	if w := r.post("/webhooks/docs", strings.Repeat("x", 1<<20)); w.Code != http.StatusAccepted && w.Code != http.StatusOK {
		t.Errorf("the memory did not come back: %d %s", w.Code, w.Body)
	}
	r.kafka.await(t, kafka.TopicDebts, 1)
}
