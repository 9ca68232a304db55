package gateway_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
)

// FuzzReceive sends arbitrary requests through the whole edge, over gRPC to the verifier and back. Nothing may panic, and while
// every service is there nothing may be answered with a 5xx.
func FuzzReceive(f *testing.F) {
	r := start(f, small)
	r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		// The verdict depends on the body, so that every way out is taken.
		v := &verifierv1.VerifyResponse{Code: "X", Reason: "fuzz"}
		if n := len(req.GetBody()); n > 0 {
			v.Verdict = verifierv1.Verdict(1 + req.GetBody()[0]%5)
		} else {
			v.Verdict = verifierv1.Verdict_VERDICT_REJECTED
		}
		if v.GetVerdict() == verifierv1.Verdict_VERDICT_ACCEPTED {
			v.Events = append(v.Events, event(strings.ToValidUTF8(string(req.GetBody()), "?")))
		}
		if v.GetVerdict() == verifierv1.Verdict_VERDICT_CHALLENGE {
			v.Response = &verifierv1.HttpResponse{Status: int32(req.GetBody()[0]) * 7, Headers: req.GetHeaders(), Body: req.GetBody()}
		}
		return v, nil
	})
	f.Add("POST", "/webhooks/docs?a=b", "Content-Encoding", "gzip", []byte("\x1f\x8b\x08\x00"))
	f.Add("GET", "/webhooks/docs?validationToken=x%00", "Content-Type", "application/x-www-form-urlencoded", []byte("a=b&%zz"))
	f.Add("POST", "/v1/search?query=\xff", "Grpc-Timeout", "1n", []byte("{"))
	f.Add("GET", "/v1/documents/docs/%2e%2e/%00", "Te", "trailers", []byte("\x02\x03"))
	f.Add("POST", "/v1/sources/docs:poll", "Content-Type", "application/json", []byte(`{"full":"\ud800"}`))
	f.Fuzz(func(t *testing.T, method, target, name, value string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // net/http refuses it itself
		}
		req, err := http.NewRequest(method, "/", bytes.NewReader(body))
		if err != nil {
			return
		}
		req.URL, req.RequestURI, req.RemoteAddr = u, target, "192.0.2.1:1234"
		if httpguts.ValidHeaderFieldName(name) { // net/http lets no other through
			req.Header[http.CanonicalHeaderKey(name)] = []string{value, value}
		}
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, req)
		if w.Code < 200 || w.Code >= 500 {
			// Services of the rig that are not implemented, and the errors that it is told to give, are not ours.
			if w.Code == http.StatusNotImplemented || strings.Contains(target, "query=") {
				return
			}
			if strings.HasPrefix(u.Path, "/webhooks/") && len(body) > 0 && w.Header().Get("Content-Type") != "application/problem+json" {
				return // a handshake's own status
			}
			t.Fatalf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
	})
}
