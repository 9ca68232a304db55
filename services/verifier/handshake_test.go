package verifier

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// handshake is a provider's question with the answer that it expects.
type handshakeCase struct {
	Name     string
	Method   string
	URL      string
	Headers  map[string]string
	Body     json.RawMessage
	Expected struct {
		Status  int
		Headers map[string]string
		Body    json.RawMessage
	} `json:"expected_response"`
}

// raw is a body as it goes over the wire: texts as they are, everything else as JSON.
func raw(t *testing.T, m json.RawMessage) []byte {
	var s string
	if json.Unmarshal(m, &s) == nil {
		return []byte(s)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, m); err != nil {
		t.Fatal(err)
	}
	return compact.Bytes()
}

// handshakeSources say, for each handshake of the collection, which source it is for.
var handshakeSources = map[string]config.Source{
	"asana-handshake":             {Preset: "asana"},
	"discord-ping":                {Preset: "discord", Secrets: []config.Secret{{Value: "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664"}}},
	"dropbox-challenge":           {Preset: "dropbox", Secrets: []config.Secret{{Value: "s"}}},
	"front-sync-challenge":        {Preset: "front", Secrets: []config.Secret{{Value: "s"}}},
	"graph-validation":            {Preset: "microsoft-graph", Secrets: []config.Secret{{Value: "s"}}},
	"meta-handshake":              {Preset: "meta-whatsapp", Secrets: []config.Secret{{Value: "app"}, {Value: "YOUR_TOKEN", Kind: "verify-token"}}},
	"monday-challenge":            {Preset: "monday", Secrets: []config.Secret{{Value: "s"}}},
	"notion-handshake":            {Preset: "notion"},
	"salesforce-outbound-message": {Preset: "salesforce", Unsigned: true},
	"sharepoint-validation":       {Preset: "sharepoint", Secrets: []config.Secret{{Value: "s"}}},
	"slack-url-verification":      {Preset: "slack", Secrets: []config.Secret{{Value: "s"}}},
	"zoom-url-validation":         {Preset: "zoom", Secrets: []config.Secret{{Value: "s"}}},
}

func signature(secret, message string, encode func([]byte) string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(message))
	return encode(mac.Sum(nil))
}

// sign fills in the signature that the collection leaves out, and says when it was made.
func (h *handshakeCase) sign(body string) time.Time {
	for name, value := range h.Headers {
		if !strings.Contains(value, "<computed>") {
			continue
		}
		switch name {
		case "X-Slack-Signature":
			h.Headers[name] = "v0=" + signature("s", "v0:"+h.Headers["X-Slack-Request-Timestamp"]+":"+body, hex.EncodeToString)
		case "x-zm-signature":
			h.Headers[name] = "v0=" + signature("s", "v0:"+h.Headers["x-zm-request-timestamp"]+":"+body, hex.EncodeToString)
		case "X-Front-Signature":
			h.Headers[name] = signature("s", h.Headers["X-Front-Request-Timestamp"]+":"+body, base64.StdEncoding.EncodeToString)
		}
	}
	for name, value := range h.Headers {
		if strings.Contains(strings.ToLower(name), "timestamp") {
			n, _ := strconv.ParseInt(value, 10, 64)
			if n > 1e11 {
				n /= 1000
			}
			return time.Unix(n, 0)
		}
	}
	return time.Unix(1700000000, 0)
}

func verifyRequest(method, target string, headers map[string]string, body []byte) *verifierv1.VerifyRequest {
	req := &verifierv1.VerifyRequest{Method: method, Url: target, Body: body}
	for name, value := range headers {
		req.Headers = append(req.Headers, &eventv1.Header{Name: name, Value: []byte(value)})
	}
	return req
}

func explained(t *testing.T, src config.Source, req *verifierv1.VerifyRequest, at time.Time) Explanation {
	t.Helper()
	if src.Name == "" {
		src.Name = "x"
	}
	got, err := Explain(src, req, at)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEveryHandshakeIsAnsweredAsItsProviderExpects(t *testing.T) {
	jsonLines(t, sharedFacts(t, "handshakes.jsonl"), func(h handshakeCase) {
		src, ok := handshakeSources[h.Name]
		if !ok {
			t.Errorf("%s: the test knows no source for it", h.Name)
			return
		}
		body := raw(t, h.Body)
		at := h.sign(string(body))
		got := explained(t, src, verifyRequest(h.Method, h.URL, h.Headers, body), at)
		if got.Response == nil || got.Response.Status != h.Expected.Status {
			t.Errorf("%s: %+v, want status %d", h.Name, got, h.Expected.Status)
			return
		}
		for name, want := range h.Expected.Headers {
			if answer := got.Response.Headers[name]; answer != want && !strings.HasPrefix(answer, want+";") {
				t.Errorf("%s: header %s is %q, want %q", h.Name, name, answer, want)
			}
		}
		want := string(raw(t, h.Expected.Body))
		if h.Name == "zoom-url-validation" {
			want = `{"encryptedToken":"` + signature("s", "qgg8vlvZRS6UYooatFL8Aw", hex.EncodeToString) + `","plainToken":"qgg8vlvZRS6UYooatFL8Aw"}`
		}
		if got.Response.Body != want {
			t.Errorf("%s: body %q, want %q", h.Name, got.Response.Body, want)
		}
	})
}

func TestAnActiveSecretIsNeverReplacedInBand(t *testing.T) {
	for _, tt := range []struct {
		preset, body string
		headers      map[string]string
	}{
		{"notion", `{"verification_token":"attacker"}`, nil},
		{"asana", ``, map[string]string{"X-Hook-Secret": "attacker"}},
		{"jira-connect", `{"eventType":"installed","sharedSecret":"attacker"}`, nil},
	} {
		pending, err := compileSource(config.Source{Name: "x", Preset: tt.preset}, builtinPresets(t))
		if err != nil {
			t.Fatal(err)
		}
		active, err := compileSource(config.Source{Name: "x", Preset: tt.preset, Secrets: []config.Secret{{Value: "s"}}}, builtinPresets(t))
		if err != nil {
			t.Fatal(err)
		}
		req := verifyRequest("POST", "/x", tt.headers, []byte(tt.body))
		if res, captured, _ := pending.decide(req, time.Now(), false); captured != "attacker" || res.GetVerdict() != verifierv1.Verdict_VERDICT_CHALLENGE {
			t.Errorf("%s, pending: %v", tt.preset, res)
		}
		if res, captured, _ := active.decide(req, time.Now(), false); captured != "" || res.GetVerdict() != verifierv1.Verdict_VERDICT_REJECTED {
			t.Errorf("%s, active: %v captured %q", tt.preset, res, captured)
		}
	}
}

func TestNoHandshakeSignsForStrangers(t *testing.T) {
	now := time.Unix(1635885799, 0)
	forgery := "v0:1635885799:{}"
	for _, tt := range []struct {
		name, preset, secret, method, target, body string
		headers                                    map[string]string
	}{
		{"an unsigned question", "zoom", "s", "POST", "/x", `{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}`, map[string]string{"x-zm-request-timestamp": "1635885799", "x-zm-signature": "v0=00"}},
		{"a signed question about what is signed", "zoom", "s", "POST", "/x", `{"event":"endpoint.url_validation","payload":{"plainToken":"` + forgery + `"}}`, nil},
		{"a challenge that is a body", "x", "s", "GET", "/x?crc_token=" + url.QueryEscape(`{"a":1}`), ``, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			headers := tt.headers
			if headers == nil {
				headers = map[string]string{"x-zm-request-timestamp": "1635885799", "x-zm-signature": "v0=" + signature(tt.secret, "v0:1635885799:"+tt.body, hex.EncodeToString)}
			}
			got := explained(t, config.Source{Preset: tt.preset, Secrets: []config.Secret{{Value: tt.secret}}}, verifyRequest(tt.method, tt.target, headers, []byte(tt.body)), now)
			if got.Response != nil && got.Response.Status == http.StatusOK && got.Response.Body != "" {
				t.Errorf("hookmesh signed for a stranger: %+v", got.Response)
			}
		})
	}
}
