package verifier

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// vector is a signed request whose outcome is known from the provider's documentation or SDK.
type vector struct {
	N        int
	Provider string
	Secret   json.RawMessage
	Headers  map[string]string
	Method   string
	URL      string
	Body     string `json:"body_base64"`
	Now      *int64 `json:"now_unix"`
	Expect   string
	Reason   string
}

// sharedFacts finds the collection of published vectors beside the checkout.
func sharedFacts(t *testing.T, name string) []byte {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "..", "shared", "providers", name))
	if err != nil {
		t.Skipf("the providers' published vectors are not beside this checkout (%v); testdata/vectors.jsonl is tested all the same", err)
	}
	return raw
}

func secretsOf(t *testing.T, raw json.RawMessage) []config.Secret {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []config.Secret{{Value: one}}
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		t.Fatal(err)
	}
	var out []config.Secret
	for _, s := range many {
		out = append(out, config.Secret{Value: s})
	}
	return out
}

func judgeVectors(t *testing.T, raw []byte) {
	done := 0
	for scanner := bufio.NewScanner(bytes.NewReader(raw)); scanner.Scan(); {
		var v vector
		if err := json.Unmarshal(scanner.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if v.Provider == "svix" {
			v.Provider = "standard-webhooks"
		}
		if !slices.Contains([]string{"github", "confluence", "slack", "standard-webhooks", "generic-hmac"}, v.Provider) {
			continue
		}
		body, err := base64.StdEncoding.DecodeString(v.Body)
		if err != nil {
			t.Fatal(err)
		}
		req := &verifierv1.VerifyRequest{Method: v.Method, Url: v.URL, Body: body}
		for k, val := range v.Headers {
			req.Headers = append(req.Headers, &eventv1.Header{Name: k, Value: []byte(val)})
		}
		at := time.Time{}
		if v.Now != nil {
			at = time.Unix(*v.Now, 0)
		}
		got, err := Explain(config.Source{Name: "x", Preset: v.Provider, Secrets: secretsOf(t, v.Secret)}, req, at)
		if err != nil {
			t.Errorf("vector %d (%s, %s): %v", v.N, v.Provider, v.Reason, err)
			continue
		}
		if (got.Verdict != "rejected") != (v.Expect == "valid") {
			t.Errorf("vector %d (%s, %s): got %s (%s: %s), want %s", v.N, v.Provider, v.Reason, got.Verdict, got.Code, got.Reason, v.Expect)
		}
		done++
	}
	if done == 0 {
		t.Error("no vector was judged")
	}
}

func TestPublishedVectors(t *testing.T) { judgeVectors(t, sharedFacts(t, "vectors.jsonl")) }

func TestVectorsMadeForTheseTests(t *testing.T) {
	raw, err := os.ReadFile("testdata/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	judgeVectors(t, raw)
}
