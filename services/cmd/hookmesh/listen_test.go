package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mirror takes requests as hookmesh would, and keeps them.
func mirror(t *testing.T, status int) (*httptest.Server, chan captured) {
	got := make(chan captured, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- captured{Method: r.Method, Query: r.URL.Path + "?" + r.URL.RawQuery, Header: r.Header, Body: body}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"status":"accepted"}`)
	}))
	t.Cleanup(server.Close)
	return server, got
}

func TestListenForwardsByteForByteAndReplaysWhatItKept(t *testing.T) {
	hookmesh, got := mirror(t, http.StatusAccepted)
	file := filepath.Join(t.TempDir(), "captured.jsonl")
	log, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tunnel := httptest.NewServer(&listener{base: hookmesh.URL, source: "docs", client: http.DefaultClient, out: &out, log: log})
	defer tunnel.Close()
	body := []byte("Hello, World!\x00\xff")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tunnel.URL+"/any/path?a=1&b=%20", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["X-Hub-Signature-256"] = []string{"sha256=one", "sha256=two"}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusAccepted || res.Header.Get("X-Answer") != "yes" || string(answer) != `{"status":"accepted"}` {
		t.Errorf("%d %s", res.StatusCode, answer)
	}
	first := <-got
	if first.Method != http.MethodPost || first.Query != "/webhooks/docs?a=1&b=%20" || !bytes.Equal(first.Body, body) || len(first.Header["X-Hub-Signature-256"]) != 2 {
		t.Errorf("%+v", first)
	}
	if !strings.Contains(out.String(), "→ 202") {
		t.Errorf("shown: %s", out.String())
	}

	if code, said, errs := command(t, "listen", "--source", "docs", "--url", hookmesh.URL, "--replay", file); code != 0 || !strings.Contains(said, "1 requests sent, 0 refused") {
		t.Fatalf("exit %d: %s %s", code, said, errs)
	}
	if again := <-got; !bytes.Equal(again.Body, body) || again.Query != first.Query || len(again.Header["X-Hub-Signature-256"]) != 2 {
		t.Errorf("%+v", again)
	}
	t.Setenv(secretVariable, "It's a Secret to Everybody")
	if code, said, errs := command(t, "listen", "--source", "docs", "--url", hookmesh.URL, "--replay", file, "--preset", "github"); code != 0 {
		t.Fatalf("exit %d: %s %s", code, said, errs)
	}
	if again := <-got; len(again.Header["X-Hub-Signature-256"]) != 1 || !strings.HasPrefix(again.Header.Get("X-Hub-Signature-256"), "sha256=") || again.Header.Get("X-Hub-Signature-256") == "sha256=one" {
		t.Errorf("not signed anew: %v", again.Header)
	}
	refusing, _ := mirror(t, http.StatusForbidden)
	if code, _, _ := command(t, "listen", "--source", "docs", "--url", refusing.URL, "--replay", file); code != 1 {
		t.Errorf("refused, and exit %d", code)
	}
}

func TestDoctorSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	hookmesh := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/v1/sources:definitions":
			_ = json.NewEncoder(w).Encode(map[string]any{"sources": []any{map[string]any{
				"name": "docs", "state": "STATE_ENABLED", "definition": map[string]any{"preset": "github", "public_url": "http://" + r.Host + "/webhooks/docs"},
				"secrets": []any{map[string]any{"id": "s1", "notAfter": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}},
			}}})
		case "/v1/clocks":
			_, _ = io.WriteString(w, `{"ours":true,"offset":"600s","voices":3}`)
		case "/v1/sources":
			_, _ = io.WriteString(w, `{"sources":[{"name":"docs","error":"HTTP 401"},{"name":"drive","subscriptions":[{"resource":"feed","error":"HTTP 403"}]}]}`)
		case "/metrics":
			_, _ = io.WriteString(w, "hookmesh_kafka_lag{group=\"g\",partition=\"0\",topic=\"t\"} 3\n")
		case "/readyz":
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"code":"SIGNATURE_MISSING"}`)
		}
	}))
	defer hookmesh.Close()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("data_dir: "+t.TempDir()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "doctor", "--config", file, "--url", hookmesh.URL, "--admin", hookmesh.URL, "--ntp", "", "--json")
	var said struct {
		Status   string
		Findings []struct{ Check, Subject, Status, Message, Advice string }
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || code != 1 || said.Status != "problem" {
		t.Fatalf("exit %d: %s %s %v", code, out, errs, err)
	}
	want := map[string]string{
		"configuration": "ok", "running": "ok", "ready": "ok", "clock": "problem", "secrets": "warning", "presets": "ok", "public-url": "ok", "tls": "warning",
		"polls": "problem", "subscriptions": "problem", "lag": "ok", "disk": "",
	}
	for _, f := range said.Findings {
		status, known := want[f.Check]
		if !known || status != "" && f.Status != status {
			t.Errorf("%+v, want %s", f, status)
		}
		if (f.Status == "problem" || f.Status == "warning") && f.Advice == "" {
			t.Errorf("%s: nothing is said to be done", f.Check)
		}
		delete(want, f.Check)
	}
	if len(want) != 0 {
		t.Errorf("not looked at: %v", want)
	}
	hookmesh.Close()
	if code, out, _ := command(t, "doctor", "--config", file, "--url", hookmesh.URL, "--ntp", ""); code != 1 || !strings.Contains(out, "hookmesh up") {
		t.Errorf("nothing runs: exit %d: %s", code, out)
	}
}
