package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

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
	r := start(t, func(d *gateway.Deps, _ *gateway.Config) { d.Access, d.Telemetry.Logger = gate, logger })
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
