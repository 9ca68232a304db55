package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSendPutsTheCredentialWhereThePresetHasIt(t *testing.T) {
	type seen struct{ url, body string }
	got := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got <- seen{r.URL.String(), string(raw)}
	}))
	defer server.Close()
	payload := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(payload, []byte(`{"value":[{"subscriptionId":"s"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(secretVariable, "the secret")
	for _, tt := range []struct {
		preset string
		more   []string
		want   seen
	}{
		{"aha", nil, seen{"/webhooks/x?token=the+secret", `{"value":[{"subscriptionId":"s"}]}`}},
		{"aha", []string{"--public-url", "https://hooks.example/webhooks/x?a=1"}, seen{"/webhooks/x?a=1&token=the+secret", `{"value":[{"subscriptionId":"s"}]}`}},
		{"figma", nil, seen{"/webhooks/x", `{"passcode":"the secret","value":[{"subscriptionId":"s"}]}`}},
		{"microsoft-graph", nil, seen{"/webhooks/x", `{"value":[{"clientState":"the secret","subscriptionId":"s"}]}`}},
	} {
		if code, _, errs := command(t, append([]string{"send", "--source", "x", "--preset", tt.preset, "--url", server.URL, "--file", payload}, tt.more...)...); code != 0 {
			t.Errorf("%s: exit %d: %s", tt.preset, code, errs)
			continue
		}
		if s := <-got; s != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.preset, s, tt.want)
		}
	}
	if err := os.WriteFile(payload, []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "send", "--source", "x", "--preset", "figma", "--url", server.URL, "--file", payload); code == 0 || !strings.Contains(errs, "passcode") {
		t.Errorf("a body that cannot hold it: exit %d: %s", code, errs)
	}
}

func TestRotateSecretSaysWhichSecretItIs(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got <- strings.Join(strings.Fields(string(raw)), "")
		_, _ = io.WriteString(w, `{"source":{"name":"x"}}`)
	}))
	defer server.Close()
	t.Setenv(secretVariable, "s")
	if code, _, errs := command(t, "sources", "rotate-secret", "x", "--kind", "verify-token", "--for", "sub-1", "--overlap", "1h", "--url", server.URL); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if s := <-got; s != `{"secret":{"value":"s","kind":"verify-token","for":"sub-1"},"overlap":"3600s"}` {
		t.Errorf("%s", s)
	}
}
