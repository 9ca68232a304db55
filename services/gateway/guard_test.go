package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// uncalled is the service of sources, to which no call of a test may come.
type uncalled struct{ sourcev1.SourceServiceClient }

// A method that a path does not have is nobody's to use: 405 says so to all who may read, and which ones it has.
func TestWhoMayReadHearsWhichMethodsAPathHas(t *testing.T) {
	reader := access.NewKey()
	gate, err := access.New(access.Config{Keys: []access.Key{{Name: "reader", Hash: access.HashOf(reader), Scopes: []access.Scope{access.Read}}}})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(d *gateway.Deps, _ *gateway.Config) { d.Access, d.Sources = gate, uncalled{} })
	srv := httptest.NewServer(r.handler)
	defer srv.Close()
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodHead, "/v1/search?query=a", 200, ""},
		{http.MethodHead, "/v1/events/nobody", 404, ""},
		{http.MethodHead, "/v1/nothing", 404, ""},
		{http.MethodHead, "/v1/gaps:skip", 405, "POST"},
		{http.MethodGet, "/v1/gaps:skip", 405, "POST"},
		{http.MethodOptions, "/v1/search", 405, "GET, HEAD"},
		{http.MethodOptions, "/v1/sources/docs", 405, "DELETE, GET, HEAD, PUT"},
		{http.MethodPut, "/v1/search", 405, "GET, HEAD"},
		{http.MethodPatch, "/v1/sources/docs", 405, "DELETE, GET, HEAD, PUT"},
		{http.MethodDelete, "/v1/sources/docs:poll", 403, ""}, // a source may be named so
		{http.MethodPost, "/v1/documents/docs/a%2Fb", 405, "GET, HEAD"},
		{http.MethodPost, "/v1/nothing", 404, ""},
		{http.MethodPut, "/v1/sources/docs", 403, ""},
		{http.MethodPost, "/v1/sources/docs:poll", 403, ""},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, srv.URL+tc.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+reader)
			res, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tc.status || res.Header.Get("Allow") != tc.allow {
				t.Errorf("%d, allowed are %q, %v; want %d, %q: %s", res.StatusCode, res.Header.Get("Allow"), err, tc.status, tc.allow, body)
			}
			if (len(body) == 0) != (tc.method == http.MethodHead) {
				t.Errorf("the body is %q", body)
			}
		})
	}
}

func TestTheAPIAsksWhoCallsAndWebhooksStayOpen(t *testing.T) {
	reader, operator := access.NewKey(), access.NewKey()
	gate, err := access.New(access.Config{Keys: []access.Key{
		{Name: "reader", Hash: access.HashOf(reader), Scopes: []access.Scope{access.Read}},
		{Name: "operator", Hash: access.HashOf(operator), Scopes: []access.Scope{access.Operate}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	logger, err := telemetry.NewLogger(log, "error", "text") // the audit log does not depend on the level
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(d *gateway.Deps, _ *gateway.Config) {
		d.Access, d.Telemetry.Logger, d.Sources = gate, logger, uncalled{}
	})
	for name, tc := range map[string]struct {
		method, path, key string
		want              int
		code              string
	}{
		"a webhook":                        {http.MethodPost, "/webhooks/docs", "", http.StatusAccepted, ""},
		"a search without a key":           {http.MethodGet, "/v1/search?query=a", "", http.StatusUnauthorized, "UNAUTHENTICATED"},
		"a search with a key":              {http.MethodGet, "/v1/search?query=a", reader, http.StatusOK, ""},
		"a poll by a reader":               {http.MethodPost, "/v1/sources/docs:poll", reader, http.StatusForbidden, "PERMISSION_DENIED"},
		"a poll by an operator":            {http.MethodPost, "/v1/sources/docs:poll", operator, http.StatusOK, ""},
		"a source deleted by an operator":  {http.MethodDelete, "/v1/sources/docs", operator, http.StatusForbidden, "PERMISSION_DENIED"},
		"a secret changed by an operator":  {http.MethodPost, "/v1/sources/docs:rotateSecret", operator, http.StatusForbidden, "PERMISSION_DENIED"},
		"a source named like an operation": {http.MethodPut, "/v1/sources/a:poll:poll", operator, http.StatusForbidden, "PERMISSION_DENIED"},
		"a path that does not exist":       {http.MethodGet, "/v1/nothing", "", http.StatusUnauthorized, "UNAUTHENTICATED"},
		"a source changed by a reader":     {http.MethodPut, "/v1/sources/docs", reader, http.StatusForbidden, "PERMISSION_DENIED"},
		"a method that nobody has":         {http.MethodPut, "/v1/search", "", http.StatusUnauthorized, "UNAUTHENTICATED"},
		"the description of the API":       {http.MethodGet, "/openapi.json", "", http.StatusOK, ""},
	} {
		req := httptest.NewRequest(tc.method, tc.path, http.NoBody)
		if tc.path == "/webhooks/docs" {
			req = httptest.NewRequest(tc.method, tc.path, strings.NewReader("page"))
		}
		if tc.key != "" {
			req.Header.Set("Authorization", "Bearer "+tc.key)
		}
		w := r.do(req)
		if w.Code != tc.want || (tc.code != "" && parse(t, w.Body.Bytes()).Code != tc.code) {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, tc.want, tc.code)
		}
		if h := w.Header(); h.Get("Access-Control-Allow-Origin") != "" || (tc.want == http.StatusUnauthorized && h.Get("Www-Authenticate") != "Bearer") {
			t.Errorf("%s: %v", name, h)
		}
	}
	text := log.String()
	for _, want := range []string{
		`audit=true principal=key:operator action="POST /v1/sources/docs:poll" outcome=200`,
		`audit=true principal=key:reader action="POST /v1/sources/docs:poll" outcome=403`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in the audit log:\n%s", want, text)
		}
	}
	twice := httptest.NewRequest(http.MethodGet, "/v1/search?query=a", http.NoBody)
	twice.Header["Authorization"] = []string{"Bearer " + reader, "Bearer " + operator}
	if w := r.do(twice); w.Code != http.StatusUnauthorized {
		t.Errorf("two keys in one request: %d", w.Code)
	}
	if strings.Contains(text, reader) || strings.Contains(text, operator) {
		t.Error("a key is in the log")
	}
}

func TestEveryRequestHasAnIDInItsAnswerInErrorsAndInTheLog(t *testing.T) {
	log := &syncBuffer{}
	logger, err := telemetry.NewLogger(log, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(d *gateway.Deps, _ *gateway.Config) { d.Telemetry.Logger = logger })
	w := r.post("/webhooks/docs", "page", "X-Request-Id: deploy-7/a.b")
	if w.Header().Get("X-Request-Id") != "deploy-7/a.b" {
		t.Errorf("%v", w.Header())
	}
	for _, bad := range []string{"", "two words", "line\x00", strings.Repeat("x", 129), "ä"} {
		w := r.post("/webhooks/docs", "page", "X-Request-Id: "+bad)
		if id := w.Header().Get("X-Request-Id"); id == bad || len(id) < 16 {
			t.Errorf("%q was answered with %q", bad, id)
		}
	}
	for _, path := range []string{"/webhooks/nobody", "/v1/search?query=broken", "/nothing"} {
		w := r.do(httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if id := w.Header().Get("X-Request-Id"); id == "" || !strings.Contains(w.Body.String(), `"requestId":"`+id+`"`) {
			t.Errorf("%s: %v %s", path, w.Header(), w.Body)
		}
	}
	req := httptest.NewRequest(http.MethodGet, "/v1/search?query=broken", http.NoBody)
	req.Header.Set("X-Request-Id", "look-for-me")
	r.do(req)
	if !strings.Contains(log.String(), "request_id=look-for-me") {
		t.Errorf("the log does not name the request:\n%s", log.String())
	}
}
