package connectortest

import (
	"net/http"
	"slices"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// Webhook is a delivery as a provider sends it.
type Webhook struct {
	// Name says what happened.
	Name string
	// Method; empty: POST.
	Method string
	// Header besides the signature.
	Header map[string]string
	Body   string
	// Want are the ids of the documents that it concerns, as the connector knows them.
	Want []string
}

// SameIDs checks that a preset reads the ids out of webhooks that the connector uses: otherwise what a poll heals would be another
// document than the one that the webhook was about.
func SameIDs(t *testing.T, presetName, secret string, settings map[string]string, hooks ...Webhook) {
	t.Helper()
	p, err := verifier.PresetNamed(presetName)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.With(settings); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for _, h := range hooks {
		if h.Method == "" {
			h.Method = http.MethodPost
		}
		header := http.Header{}
		if h.Body != "" {
			header.Set("Content-Type", "application/json")
		}
		for k, v := range h.Header {
			header.Set(k, v)
		}
		d := preset.Delivery{Header: header, Method: h.Method, URL: "https://hooks.example/x", Body: []byte(h.Body)}
		if err := p.Sign(&d, secret, now); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		req := &verifierv1.VerifyRequest{Method: d.Method, Url: d.URL, Body: d.Body}
		for k, values := range header {
			for _, v := range values {
				req.Headers = append(req.Headers, &eventv1.Header{Name: k, Value: []byte(v)})
			}
		}
		e, err := verifier.Explain(config.Source{Name: "s", Preset: presetName, Settings: settings, Secrets: []config.Secret{{Value: secret}}}, req, now)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		var got []string
		for _, ev := range e.Events {
			got = append(got, ev.DocumentID)
		}
		if !slices.Equal(got, h.Want) {
			t.Errorf("%s: the preset reads the ids %q (%s: %s), the connector has %q", h.Name, got, e.Verdict, e.Reason, h.Want)
		}
	}
}
