package verifier

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// vector is a signed request whose outcome is known from the provider's documentation or SDK.
type vector struct {
	N        int
	Provider string
	Mode     string
	Secret   json.RawMessage
	Headers  map[string]string
	Method   string
	URL      string
	Body     string `json:"body_base64"`
	Now      *int64 `json:"now_unix"`
	Expect   string
	Reason   string
}

// request is the vector's request.
func (v *vector) request(t *testing.T) *verifierv1.VerifyRequest {
	body, err := base64.StdEncoding.DecodeString(v.Body)
	if err != nil {
		t.Fatal(err)
	}
	req := &verifierv1.VerifyRequest{Method: v.Method, Url: v.URL, Body: body}
	for k, val := range v.Headers {
		req.Headers = append(req.Headers, &eventv1.Header{Name: k, Value: []byte(val)})
	}
	return req
}

// source is the source that the vector was made for.
func (v *vector) source(t *testing.T) config.Source {
	src := config.Source{Name: "x", Preset: presetOf(v.Provider), Secrets: secretsOf(t, v.Secret)}
	if v.Mode != "" {
		src.Settings = map[string]string{"mode": v.Mode}
	}
	return src
}

// presetOf is the preset of a provider that is called otherwise in the collection.
func presetOf(provider string) string {
	if name, ok := map[string]string{"meta": "meta-whatsapp"}[provider]; ok {
		return name
	}
	return provider
}

// sharedFacts finds the collection of published vectors beside the checkout.
func sharedFacts(t *testing.T, name string) []byte {
	raw, err := os.ReadFile(filepath.Join(sharedFolder(t), name))
	if err != nil {
		t.Skipf("NOT TESTED: the providers' published vectors are not beside this checkout (%v); the project's own vectors are tested all the same", err)
	}
	return raw
}

func sharedFolder(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
	}
	return filepath.Join(dir, "..", "shared", "providers")
}

func secretsOf(t *testing.T, raw json.RawMessage) []config.Secret {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []config.Secret{{Value: one}}
	}
	var many []*string
	if err := json.Unmarshal(raw, &many); err != nil {
		t.Fatal(err)
	}
	var out []config.Secret
	for _, s := range many {
		if s != nil {
			out = append(out, config.Secret{Value: *s})
		}
	}
	return out
}

// lines calls fn with every line of a JSON lines file.
func jsonLines[T any](t *testing.T, raw []byte, fn func(T)) {
	t.Helper()
	count := 0
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var v T
		if err := json.Unmarshal(scanner.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		fn(v)
		count++
	}
	if count == 0 || scanner.Err() != nil {
		t.Fatalf("%d lines were read: %v", count, scanner.Err())
	}
}

// unhelpful is what a reason may not be: a person has to learn from it what to look at.
func unhelpful(reason string) bool {
	return len(strings.Fields(reason)) < 5 || strings.Contains(reason, "_") && !strings.Contains(reason, "public_url") && !strings.Contains(reason, "X-") && len(strings.Fields(reason)) < 6
}

// TestEveryPublishedVector judges every line of the collection, and asks that each refusal explains itself.
func TestEveryPublishedVector(t *testing.T) {
	jsonLines(t, sharedFacts(t, "vectors.jsonl"), func(v vector) {
		at := time.Time{}
		if v.Now != nil {
			at = time.Unix(*v.Now, 0)
		}
		got, err := Explain(v.source(t), v.request(t), at)
		if err != nil {
			// A secret that cannot be a key of the provider is refused before a request comes.
			if v.Expect == "valid" {
				t.Errorf("vector %d (%s, %s): %v", v.N, v.Provider, v.Reason, err)
			}
			return
		}
		if (got.Verdict != "rejected") != (v.Expect == "valid") {
			t.Errorf("vector %d (%s, %s): got %s (%s: %s), want %s", v.N, v.Provider, v.Reason, got.Verdict, got.Code, got.Reason, v.Expect)
		}
		if got.Verdict != "rejected" {
			return
		}
		t.Logf("vector %d (%s, %s): %s: %s", v.N, v.Provider, v.Reason, got.Code, got.Reason)
		if unhelpful(got.Reason) {
			t.Errorf("vector %d (%s, %s): the reason helps nobody: %q", v.N, v.Provider, v.Reason, got.Reason)
		}
		for _, secret := range secretsOf(t, v.Secret) {
			if len(secret.Value) > 6 && strings.Contains(got.Reason, secret.Value) {
				t.Errorf("vector %d (%s): the reason tells the secret", v.N, v.Provider)
			}
		}
	})
}

func builtinPresets(t testing.TB) *presets.Set {
	all, err := presets.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return all
}
