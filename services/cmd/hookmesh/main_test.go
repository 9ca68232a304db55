package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// command runs a command line as a user would.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestVerifySaysWhyAWebhookIsRefused(t *testing.T) {
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, []byte("Hello, World!"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "It's a Secret to Everybody"
	// The example of GitHub's documentation.
	const signature = "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"authentic, but not JSON", []string{"--secret", secret, "--header", signature}, 0, `"verdict": "quarantined"`},
		{"the second secret fits", []string{"--secret", "other", "--secret", secret, "--header", signature}, 0, `"verdict": "quarantined"`},
		{"another secret", []string{"--secret", "wrong", "--header", signature}, 1, `"code": "SIGNATURE_MISMATCH"`},
		{"no signature", []string{"--secret", secret}, 1, `"code": "SIGNATURE_MISSING"`},
		{"no secret", nil, 2, ""},
		{"a header that is none", []string{"--secret", secret, "--header", "x"}, 2, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := command(t, append([]string{"verify", "--preset", "github", "--body", body}, tt.args...)...)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, want %d\n%s%s", code, tt.code, out, errs)
			}
			if strings.Contains(out+errs, secret) || strings.Contains(out+errs, "757107ea") && tt.code == 1 {
				t.Error("the answer gives a secret or signature away")
			}
		})
	}
}

func TestWrongUseExitsWithTwoAndSaysWhatToDo(t *testing.T) {
	for _, args := range [][]string{{"verify", "--nope"}, {"send"}, {"version", "extra"}, {"verify", "--preset", "nothing", "--secret", "x"}} {
		if code, _, errs := command(t, args...); code != 2 || errs == "" {
			t.Errorf("%v: exit %d, %q", args, code, errs)
		}
	}
	if code, _, errs := command(t, "search", "--url", "http://127.0.0.1:1", "x"); code != 1 || !strings.Contains(errs, "hookmesh up") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestSendTakesFromTheConfigurationWhatNoFlagSays(t *testing.T) {
	got := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := fmt.Sprintf("http: {listen: %q}\nsources:\n  - {name: docs, preset: github, secrets: [{value: expired, not_after: 2020-01-01T00:00:00Z}, {value: \"It's a Secret to Everybody\"}]}\n", server.Listener.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	payload := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(payload, []byte("Hello, World!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "send", "--config", file, "--source", "docs", "--file", payload); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	// The example of GitHub's documentation.
	if r := <-got; r.URL.Path != "/webhooks/docs" || r.Header.Get("X-Hub-Signature-256") != "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" {
		t.Errorf("%s %v", r.URL, r.Header)
	}
	if code, _, errs := command(t, "send", "--config", file, "--source", "other", "--file", payload); code != 2 || !strings.Contains(errs, "docs") {
		t.Errorf("an unknown source: exit %d: %s", code, errs)
	}
	if code, _, errs := command(t, "send", "--source", "docs", "--preset", "github", "--file", payload); code != 2 || !strings.Contains(errs, "HOOKMESH_SECRET") {
		t.Errorf("no secret: exit %d: %s", code, errs)
	}
	t.Setenv("HOOKMESH_SECRET", "It's a Secret to Everybody")
	if code, _, errs := command(t, "send", "--source", "docs", "--preset", "github", "--url", server.URL, "--file", payload); code != 0 {
		t.Errorf("a secret from the environment: exit %d: %s", code, errs)
	}
	if r := <-got; r.Header.Get("X-Hub-Signature-256") != "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" {
		t.Errorf("%v", r.Header)
	}
}

func TestPresetsAreListed(t *testing.T) {
	code, out, _ := command(t, "presets")
	for _, p := range []string{"github", "confluence", "slack", "standard-webhooks", "generic-hmac"} {
		if code != 0 || !strings.Contains(out, p) {
			t.Errorf("exit %d, %s is not in\n%s", code, p, out)
		}
	}
}

func TestAKeyIsPrintedOnceWithWhatTheConfigurationHoldsOfIt(t *testing.T) {
	code, out, errs := command(t, "keys", "new", "--name", "ops", "--scope", "read", "--scope", "operate", "--lasts", "24h")
	if code != 0 {
		t.Fatalf("%d %s", code, errs)
	}
	_, snippet, _ := strings.Cut(out, "for the configuration:\n")
	cfg, err := config.Parse("hookmesh.yaml", []byte(snippet), os.LookupEnv)
	if err != nil {
		t.Fatalf("%v\n%s", err, snippet)
	}
	_, rest, _ := strings.Cut(out, "hmk_")
	key, _, _ := strings.Cut("hmk_"+rest, "\n")
	if k := cfg.Access.Keys[0]; k.Hash != access.HashOf(key) || k.Name != "ops" || len(k.Scopes) != 2 || k.NotAfter.IsZero() || strings.Contains(snippet, key) {
		t.Errorf("%+v", k)
	}
	for _, args := range [][]string{{"keys", "new"}, {"keys", "new", "--name", "x", "--scope", "root"}} {
		if code, _, _ := command(t, args...); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}
