package sources_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// Providers ask in different ways whether somebody is there; the built program answers each as it expects.
func TestHandshakesByEveryMethodAreAnswered(t *testing.T) {
	m := mesh.Start(t, "")
	for preset, extra := range map[string]string{
		"trello": "public_url: https://hooks.example.com/webhooks/trello\n", "cloudevents": "content: {fetch: 'http://127.0.0.1:1/{document_id}'}\n", "dropbox": "", "microsoft-graph": "content: {fetch: 'http://127.0.0.1:1/{document_id}'}\n",
	} {
		file := filepath.Join(m.Dir, preset+".yaml")
		if err := os.WriteFile(file, []byte("preset: "+preset+"\n"+extra), 0o600); err != nil {
			t.Fatal(err)
		}
		must(m, "some-secret-of-this-source", "sources", "create", preset, "--file", file)
	}
	tests := []struct {
		name, method, target string
		header               http.Header
		status               int
		body                 string // what the answer has to be; HEAD has none
		want                 http.Header
	}{
		{name: "HEAD", method: http.MethodHead, target: "trello", status: 200},
		{name: "OPTIONS", method: http.MethodOptions, target: "cloudevents", header: http.Header{"Webhook-Request-Origin": {"events.example.com"}}, status: 200,
			want: http.Header{"Webhook-Allowed-Origin": {"events.example.com"}}},
		{name: "GET with a challenge", method: http.MethodGet, target: "dropbox?challenge=abc123", status: 200, body: "abc123"},
		{name: "POST with a validation token", method: http.MethodPost, target: "microsoft-graph?validationToken=Validation%3A+Testing", status: 200, body: "Validation: Testing"},
		{name: "HEAD where it is no handshake", method: http.MethodHead, target: "dropbox", status: 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.Until(10*time.Second, "the handshake is answered", func() error { // the gateway may still have to hear of the source
				req, err := http.NewRequestWithContext(t.Context(), tt.method, m.HTTP+"/webhooks/"+tt.target, http.NoBody)
				if err != nil {
					return err
				}
				for name, values := range tt.header {
					req.Header[name] = values
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				defer func() { _ = res.Body.Close() }()
				raw, err := io.ReadAll(res.Body)
				if err != nil {
					return err
				}
				if res.StatusCode != tt.status || tt.body != "" && strings.TrimSpace(string(raw)) != tt.body {
					return fmt.Errorf("%d %s", res.StatusCode, raw)
				}
				for name, values := range tt.want {
					if res.Header.Get(name) != values[0] {
						return fmt.Errorf("%s is %q", name, res.Header.Get(name))
					}
				}
				return nil
			})
		})
	}
}
