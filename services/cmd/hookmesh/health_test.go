package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthIsZeroOnlyForAReadyProcess(t *testing.T) {
	status := http.StatusOK
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		w.WriteHeader(status)
	}))
	defer admin.Close()
	health := func(args ...string) int {
		var out, errs bytes.Buffer
		return run(t.Context(), append([]string{"health", "--admin", admin.URL}, args...), strings.NewReader(""), &out, &errs)
	}
	if code := health(); code != 0 {
		t.Errorf("ready: exit code %d", code)
	}
	status = http.StatusServiceUnavailable
	if code := health(); code != 1 {
		t.Errorf("not ready: exit code %d", code)
	}
	if code := health("--alive"); code != 0 {
		t.Errorf("alive but not ready: exit code %d", code)
	}
	admin.Close()
	if code := health(); code != 1 {
		t.Errorf("gone: exit code %d", code)
	}
}
