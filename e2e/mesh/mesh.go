// Package mesh starts the built program and talks to it as a stranger would: over its command line and its HTTP API.
package mesh

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/topology"
)

// Secret is the secret of the source "docs", and Docs the source as it stands in a configuration.
const (
	Secret = topology.Secret
	Docs   = topology.Docs
)

// build puts the program where the next run puts its own: nothing piles up. Test packages that run at the same time build the
// same program, and go build replaces a file as a whole.
var build = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "../..")
	bin := filepath.Join(root, "bin", "e2e", "hookmesh")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", bin, "./cmd/hookmesh")
	cmd.Dir = filepath.Join(root, "services")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=") // from whichever module the tests are
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hookmesh: %w\n%s", err, out)
	}
	return bin, nil
})

// Binary is the program, built once per test run.
func Binary(tb testing.TB) string {
	tb.Helper()
	bin, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

// Mesh is a running `hookmesh up` with one source, docs: generic-hmac, its content inline.
type Mesh struct {
	TB   testing.TB
	Dir  string
	HTTP string
	// Admin is the base URL of the admin server.
	Admin string
	// Apart, if not nil, runs the mesh in another way than as one `hookmesh up`.
	Apart Processes
	cmd   *exec.Cmd
	log   *os.File
}

// Processes are a mesh whose services run apart.
type Processes interface {
	// Up starts all of them and waits until they are ready.
	Up() error
	// Kill ends all of them at once.
	Kill()
	// Logs are what each of them logged.
	Logs() ([]string, error)
	// Admins are the base URLs of their admin servers.
	Admins() []string
}

// Start starts a mesh whose data is in a directory of its own.
func Start(tb testing.TB, extra string) *Mesh {
	tb.Helper()
	m := &Mesh{TB: tb, Dir: tb.TempDir(), HTTP: "http://" + freePort(tb), Admin: "http://" + freePort(tb)}
	cfg := fmt.Sprintf(`
http: {listen: "%s"}
grpc: {listen: ""}
admin: {listen: "%s"}
data_dir: %q
sources:
%s%s`, strings.TrimPrefix(m.HTTP, "http://"), strings.TrimPrefix(m.Admin, "http://"), filepath.Join(m.Dir, "data"), Docs, extra)
	if err := os.WriteFile(filepath.Join(m.Dir, "config.yaml"), []byte(cfg), 0o600); err != nil {
		tb.Fatal(err)
	}
	m.Up()
	tb.Cleanup(m.Kill)
	return m
}

func freePort(tb testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Up starts the process and waits until it is ready.
func (m *Mesh) Up() {
	m.TB.Helper()
	if m.Apart != nil {
		if err := m.Apart.Up(); err != nil {
			m.TB.Fatal(err)
		}
		return
	}
	log, err := os.OpenFile(filepath.Join(m.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.TB.Fatal(err)
	}
	m.log = log
	m.cmd = exec.CommandContext(context.Background(), Binary(m.TB), "up", "--config", filepath.Join(m.Dir, "config.yaml"))
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		m.TB.Fatal(err)
	}
	m.Until(30*time.Second, "hookmesh is ready", func() error {
		status, _, err := m.Get(m.Admin + "/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("readyz answers %d", status)
		}
		return err
	})
}

// Kill ends the process at once, as a power cut would end it but for the disk.
func (m *Mesh) Kill() {
	if m.Apart != nil {
		m.Apart.Kill()
	}
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	_ = m.log.Close()
	m.cmd = nil
}

// Until repeats a check until it succeeds.
func (m *Mesh) Until(patience time.Duration, what string, check func() error) {
	m.TB.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = check(); err == nil {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	logs, _ := m.logs()
	for i, log := range logs {
		logs[i] = log[max(0, len(log)-4000/len(logs)):]
	}
	m.TB.Fatalf("%s: not within %s: %v\nthe end of its log:\n%s", what, patience, err, strings.Join(logs, "\n\n"))
}

// Log is everything that the program logged.
func (m *Mesh) Log() (string, error) {
	logs, err := m.logs()
	return strings.Join(logs, "\n"), err
}

func (m *Mesh) logs() ([]string, error) {
	if m.Apart != nil {
		return m.Apart.Logs()
	}
	raw, err := os.ReadFile(filepath.Join(m.Dir, "log"))
	return []string{string(raw)}, err
}

// Traces asks every process for a trace, and returns what each of them keeps of it.
func (m *Mesh) Traces(id string) (kept [][]byte, err error) {
	admins := []string{m.Admin}
	if m.Apart != nil {
		admins = m.Apart.Admins()
	}
	for _, admin := range admins {
		status, raw, err := m.Get(admin + "/debug/traces/" + id)
		if err != nil {
			return nil, err
		}
		if status == http.StatusOK {
			kept = append(kept, raw)
		}
	}
	return kept, nil
}

// Get asks for a URL.
func (m *Mesh) Get(url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	return do(req)
}

// GetJSON asks the API for a path and reads the answer.
func (m *Mesh) GetJSON(path string, into any) error {
	status, raw, err := m.Get(m.HTTP + path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s answers %d: %s", path, status, raw)
	}
	return json.Unmarshal(raw, into)
}

// Send posts a signed webhook. No answer is an error; every answer is returned.
func (m *Mesh) Send(payload any) (int, []byte, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return 0, nil, err
	}
	return m.SendRaw(raw, Sign(raw))
}

// Sign is the signature of a body.
func Sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(Secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// OpenMetrics is what the admin server tells a scraper that knows exemplars.
func (m *Mesh) OpenMetrics() ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, m.Admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	_, raw, err := do(req)
	return raw, err
}

// SendRaw posts any bytes with any signature.
func (m *Mesh) SendRaw(body []byte, signature string) (int, []byte, error) {
	return m.SendTo("docs", body, signature)
}

// SendTo posts any bytes with any signature to a source.
func (m *Mesh) SendTo(source string, body []byte, signature string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, m.HTTP+"/webhooks/"+source, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if signature != "" {
		req.Header.Set("X-Signature", signature)
	}
	return do(req)
}

func do(req *http.Request) (int, []byte, error) {
	client := http.Client{Timeout: 20 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, raw, errors.Join(err, res.Body.Close())
}

// PID is the running process's id.
func (m *Mesh) PID() int { return m.cmd.Process.Pid }

// Command runs one of the operator's commands against the mesh, as a person does, and returns what it printed and its exit code.
func (m *Mesh) Command(args ...string) (stdout, stderr string, code int) {
	m.TB.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(context.Background(), Binary(m.TB), append(args, "--url", m.HTTP)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		m.TB.Fatalf("run hookmesh %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
