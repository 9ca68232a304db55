package edge_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/gateway/edge"
)

func TestAPanicBecomesA500AndALineInTheLogWithoutItsValue(t *testing.T) {
	var log strings.Builder
	h := edge.Recover(slog.New(slog.NewTextHandler(&log, nil)), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("s3cret") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "INTERNAL") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if text := log.String(); !strings.Contains(text, "middleware_test.go") || strings.Contains(text, "s3cret") || strings.Contains(w.Body.String(), "s3cret") {
		t.Errorf("log: %s", text)
	}
}

func TestAnAbortIsPassedOn(t *testing.T) {
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
	}()
	h := edge.Recover(slog.New(slog.DiscardHandler), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
}

func TestInvalidBytesOfAURLAreEscapedAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"/a?b=%ff&c=ä":     "/a?b=%ff&c=ä",
		"/a?\xff\xfe=\xc3": "/a?%FF%FE=%C3",
		"/\uFFFDé\xe9":     "/\uFFFDé%E9",
	} {
		if got := edge.ValidURL(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestRoutesAreFew(t *testing.T) {
	for path, want := range map[string]string{
		"/webhooks/docs": "/webhooks/{source}", "/v1/events/123": "/v1/events", "/v1/evil": "/v1", "/": "/", "/random": "/", "/v1/search": "/v1/search",
	} {
		if got := edge.Route(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
