// Package sdks lets the providers' own libraries sign deliveries, and the built program judge them.
package sdks_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// delivery is a request that a library signed.
type delivery struct {
	SDK, Preset, Secret, Method, URL, PublicURL, Body string
	// BodyNotSigned: the provider's signature does not cover the body, so that the address is altered instead.
	BodyNotSigned bool
	Headers       map[string]string
}

// wanted are the libraries that must have signed something.
var wanted = []string{"@octokit/webhooks-methods", "stripe", "svix", "standardwebhooks", "twilio", "@hubspot/api-client", "atlassian-jwt", "@contentful/node-apps-toolkit", "@sanity/webhook"}

// install puts the libraries into a directory of their own and returns it. Their install scripts are not run.
func install(t *testing.T) string {
	t.Helper()
	if os.Getenv("HOOKMESH_SDKS") == "" {
		t.Skip("the providers' libraries come from the npm registry: run this with `make sdks`")
	}
	for _, tool := range []string{"npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed, so that no library of a provider could be tried: install Node.js 20 or newer", tool)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "sign.mjs", "check.mjs"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, nil, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	return dir
}

func run(t *testing.T, dir string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

// verdict is what `hookmesh verify` says of a delivery.
func verdict(t *testing.T, d delivery) (verdict, code, reason string) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(d.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--preset", d.Preset, "--secret", "@" + secret, "--method", d.Method, "--url", d.URL, "--body", "-"}
	if d.PublicURL != "" {
		args = append(args, "--public-url", d.PublicURL)
	}
	for name, value := range d.Headers {
		args = append(args, "--header", name+": "+value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, mesh.Binary(t), args...)
	cmd.Stdin = strings.NewReader(d.Body)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("hookmesh verify: %v %s", err, exitText(exit))
	}
	var said struct{ Verdict, Code, Reason string }
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("hookmesh verify printed %s", out)
	}
	return said.Verdict, said.Code, said.Reason
}

func exitText(e *exec.ExitError) string {
	if e == nil {
		return ""
	}
	return string(e.Stderr)
}

// altered are deliveries of which something was changed on the way.
func (d delivery) altered() map[string]delivery {
	other := d
	other.Secret = strings.Map(func(r rune) rune {
		if r == 'e' {
			return 'f'
		}
		return r
	}, d.Secret) + "ff"
	if strings.HasPrefix(d.Secret, "whsec_M") {
		other.Secret = "whsec_" + strings.Repeat("AAAA", 8)
	}
	tampered := d
	if d.BodyNotSigned {
		tampered.URL = strings.Replace(d.URL, "user_id=1", "user_id=2", 1)
	} else {
		tampered.Body = strings.Replace(d.Body, "1", "7", 1)
	}
	return map[string]delivery{"tampered with": tampered, "signed with another secret": other}
}

func TestRoundTripsWithTheProvidersLibraries(t *testing.T) {
	dir := install(t)
	mesh.Binary(t) // built before anything is signed: some signatures are good for 30 seconds only
	t.Run("what they sign is accepted, altered it is refused", func(t *testing.T) { theirsAreTaken(t, dir) })
	t.Run("Slack's library takes what hookmesh signs", func(t *testing.T) { slackTakesOurs(t, dir) })
}

func theirsAreTaken(t *testing.T, dir string) {
	lines := bufio.NewScanner(bytes.NewReader(run(t, dir, nil, "node", "sign.mjs")))
	lines.Buffer(nil, 1<<20)
	signed := map[string]bool{}
	for lines.Scan() {
		var d delivery
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		signed[d.SDK] = true
		t.Run(d.SDK, func(t *testing.T) {
			if v, code, reason := verdict(t, d); v != "accepted" {
				t.Errorf("as signed: %s %s: %s", v, code, reason)
			}
			for what, a := range d.altered() {
				if v, code, reason := verdict(t, a); v != "rejected" {
					t.Errorf("%s: %s %s: %s", what, v, code, reason)
				}
			}
		})
	}
	for _, sdk := range wanted {
		if !signed[sdk] {
			t.Errorf("%s signed nothing", sdk)
		}
	}
}

// slackTakesOurs goes the other way, because Slack's library only verifies: it has to take what hookmesh signs, and hookmesh has to take it too.
func slackTakesOurs(t *testing.T, dir string) {
	const secret = "8f742231b10e8888abcd99yyyzzz85a5"
	d := delivery{Preset: "slack", Secret: secret, Method: http.MethodPost, URL: "/webhooks/x", Headers: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		d.Body = string(raw)
		for name := range r.Header {
			d.Headers[name] = r.Header.Get(name)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	payload := filepath.Join(t.TempDir(), "payload")
	body := `{"type":"event_callback","team_id":"T1","event_id":"E1","event_time":1,"event":{"type":"message","channel":"C1","ts":"1.1","text":"Ü","user":"U"}}`
	if err := os.WriteFile(payload, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, mesh.Binary(t), "send", "--source", "x", "--preset", "slack", "--url", server.URL, "--file", payload)
	cmd.Env = append(os.Environ(), "HOOKMESH_SECRET="+secret)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send: %v %s", err, out)
	}
	for what, want := range map[string]string{body: "true", body + " ": "false"} {
		question, err := json.Marshal(map[string]any{"secret": secret, "headers": d.Headers, "body": what})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(run(t, dir, question, "node", "check.mjs"))); got != want {
			t.Errorf("@slack/bolt says %s of a body of %d bytes, want %s", got, len(what), want)
		}
	}
	for _, name := range []string{"Content-Length", "Accept-Encoding", "User-Agent"} {
		delete(d.Headers, name)
	}
	if v, code, reason := verdict(t, d); v != "accepted" {
		t.Errorf("%s %s: %s", v, code, reason)
	}
	d.Body += " "
	if v, code, _ := verdict(t, d); v != "rejected" {
		t.Errorf("tampered with: %s", fmt.Sprint(v, code))
	}
}
