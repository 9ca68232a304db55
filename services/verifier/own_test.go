package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// pair is what signs and what verifies; the same text where both share a secret.
type pair struct{ sign, verify string }

func pemOf(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func keyPair(private crypto.Signer) pair {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	public, err2 := x509.MarshalPKIXPublicKey(private.Public())
	return pair{pemOf("PRIVATE KEY", der, err), pemOf("PUBLIC KEY", public, err2)}
}

// rsaPairs are made once: they take long.
var rsaPairs = sync.OnceValue(func() [2]pair {
	var out [2]pair
	for i := range out {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[i] = keyPair(k)
	}
	return out
})

// secretFor makes the n-th secret of a variant.
func secretFor(v preset.Variant, n int) pair {
	switch {
	case strings.HasPrefix(v.Algorithm, "rsa-"), v.Algorithm == "jwt" && v.JWT.Algorithms[0] == "RS256":
		return rsaPairs()[n]
	case v.Algorithm == "ecdsa-p256":
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return keyPair(k)
	case v.Algorithm == "ed25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		p := keyPair(k)
		public, _ := k.Public().(ed25519.PublicKey)
		if v.Key.Encoding == "hex" {
			p.verify = hex.EncodeToString(public)
		}
		if v.Key.Require != "" {
			p.verify = v.Key.Require + base64.StdEncoding.EncodeToString(public)
		}
		return p
	}
	text := fmt.Sprintf("a secret of the tests: number %d", n)
	switch v.Key.Encoding {
	case "base64":
		text = base64.StdEncoding.EncodeToString([]byte(text))
	case "hex":
		text = hex.EncodeToString([]byte(text))
	}
	return pair{v.Key.Require + text, v.Key.Require + text}
}

// bodies are those of presets whose credential stands in them: as a person has them, without it.
var bodies = map[string]string{
	"figma":           `{"event_type":"FILE_UPDATE","file_key":"f","passcode":"of another","timestamp":"2026-01-01T00:00:00Z","webhook_id":"1"}`,
	"prismic":         `{"type":"api-update","documents":["d1"]}`,
	"microsoft-graph": `{"value":[{"subscriptionId":"s","changeType":"updated","resource":"drives/d/root"},{"subscriptionId":"t","changeType":"updated","resource":"drives/e/root"}]}`,
	"sharepoint":      `{"value":[{"subscriptionId":"s","clientState":"","resource":"l"}]}`,
	"mailgun":         `{"signature":{"timestamp":"1529006854"},"event-data":{"id":"e"}}`,
	"linear":          `{"id":"1","type":"x","webhookTimestamp":1}`,
}

// signedCase is a request that a preset's own signer made.
type signedCase struct {
	source config.Source
	header http.Header
	target string
	body   []byte
	now    time.Time
	// where the credential stands: a header, or empty if it is the query or the body.
	in string
}

func (c *signedCase) judge(t *testing.T) Explanation {
	t.Helper()
	headers := map[string]string{}
	for k, v := range c.header {
		headers[k] = v[0]
	}
	return explained(t, c.source, verifyRequest("POST", c.target, headers, c.body), c.now)
}

// signedBy makes a request that is right, by the i-th way of the preset to prove it.
func signedBy(t *testing.T, p *preset.Preset, v preset.Variant, i int, secrets pair) *signedCase {
	c := &signedCase{
		source: config.Source{Name: "x", Preset: p.Name, Secrets: []config.Secret{{Value: secrets.verify, Kind: v.Key.Kind}}},
		header: http.Header{"Content-Type": {"application/json"}}, target: "https://hooks.example.com/in/x", body: []byte(`{"id":"1","type":"x"}`),
		now: time.Unix(1790000000, 0), in: v.Signature.Header,
	}
	only := *p // the signer takes the first way that fits
	only.Verify = p.Verify[i : i+1]
	if body := bodies[p.Name]; body != "" {
		c.body = []byte(body)
	}
	if v.Digest != nil {
		c.body = []byte("hi")
	}
	if strings.Contains(v.When, `sha384=`) && v.Algorithm != "hmac-sha256" || strings.Contains(v.When, "sha512=") {
		c.header.Set("X-Hub-Signature", v.Signature.Prefix)
	}
	if p.Name == "hubspot" && v.When != "" {
		c.header.Set("X-HubSpot-Signature-Version", map[bool]string{true: "v1", false: "v2"}[strings.Contains(v.When, "v1")])
	}
	if p.Name == "fireflies" && i == 1 {
		c.header.Set("X-Hub-Signature", "0")
	}
	if p.Name == "standard-webhooks" {
		c.header.Set(v.Signature.Header, v.Signature.Prefix)
		c.header.Set(v.ID, "msg_1")
	}
	if p.Name == "front" && i == 1 {
		c.source.Settings = map[string]string{"mode": "rule"}
	}
	with, err := only.With(c.source.Settings)
	if err != nil {
		t.Fatal(err)
	}
	d := preset.Delivery{Header: c.header, Method: "POST", URL: c.target, Body: c.body}
	if err := with.Sign(&d, secrets.sign, c.now); err != nil {
		t.Fatalf("sign: %v", err)
	}
	c.target, c.body = d.URL, d.Body
	return c
}

// TestEveryPresetAcceptsWhatItSignsAndNothingElse makes, for every preset and every way of it to prove a request, one that is
// right, and spoils it in every way that its scheme protects against.
func TestEveryPresetAcceptsWhatItSignsAndNothingElse(t *testing.T) {
	all := builtinPresets(t)
	for _, name := range all.Names() {
		raw, err := all.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := raw.With(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range p.Verify {
			if v.Algorithm == "none" {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d-%s", name, i, v.Algorithm), func(t *testing.T) {
				right, wrong := secretFor(v, 0), secretFor(v, 1)
				fresh := func() *signedCase { return signedBy(t, raw, v, i, right) }
				refused := func(what string, spoil func(*signedCase)) {
					c := fresh()
					spoil(c)
					if got := c.judge(t); got.Verdict != "rejected" || got.Reason == "" {
						t.Errorf("%s: %s (%s: %s)", what, got.Verdict, got.Code, got.Reason)
					}
				}
				if got := fresh().judge(t); got.Verdict == "rejected" {
					t.Fatalf("what the preset signed is refused: %s: %s", got.Code, got.Reason)
				}
				refused("another secret", func(c *signedCase) { c.source.Secrets[0].Value = wrong.verify })
				if v.Assurance == "body" || v.Assurance == "" && !slices.Contains([]string{"token", "basic", "each", "jwt"}, v.Algorithm) {
					refused("a changed body", func(c *signedCase) { c.body = append(c.body, ' ') })
				}
				refused("no credential", func(c *signedCase) {
					c.header.Del(c.in)
					c.target, _, _ = strings.Cut(c.target, "?")
					if v.Signature.Body != "" {
						c.body = []byte(`{"value":[{"id":1}]}`)
					}
				})
				if ts := v.Timestamp; ts != nil && !ts.Unsigned {
					refused("a stale request", func(c *signedCase) { c.now = c.now.Add(24 * time.Hour) })
					refused("a request from the future", func(c *signedCase) { c.now = c.now.Add(-24 * time.Hour) })
					if ts.Header != "" && ts.Header != v.Signature.Header {
						refused("no timestamp", func(c *signedCase) { c.header.Del(ts.Header) })
					}
				}
				if v.ID != "" {
					refused("no id", func(c *signedCase) { c.header.Del(v.ID) })
				}
			})
		}
	}
}

// What `hookmesh send` does: no header but the content type is given, and the whole preset decides. Some presets want a body of their
// own kind.
func TestEveryPresetSignsWithoutHelp(t *testing.T) {
	all := builtinPresets(t)
	for _, name := range all.Names() {
		p, err := all.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = p.With(nil); err != nil {
			t.Fatal(err)
		}
		for _, v := range p.Verify[:1] {
			if v.Algorithm == "none" {
				continue
			}
			secrets := secretFor(v, 0)
			d := preset.Delivery{Header: http.Header{"Content-Type": {"application/json"}}, Method: "POST", URL: "https://hooks.example.com/in/x", Body: []byte(`{"id":"1","type":"x"}`)}
			if body := bodies[name]; body != "" {
				d.Body = []byte(body)
			}
			now := time.Unix(1790000000, 0)
			if err := p.Sign(&d, secrets.sign, now); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			c := signedCase{source: config.Source{Name: "x", Preset: name, Secrets: []config.Secret{{Value: secrets.verify, Kind: v.Key.Kind}}}, header: d.Header, target: d.URL, body: d.Body, now: now}
			if got := c.judge(t); got.Verdict == "rejected" {
				t.Errorf("%s: what it signed is refused: %s: %s", name, got.Code, got.Reason)
			}
		}
	}
}
