package gateway

import (
	"strings"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// redacted stands where a credential stood.
const redacted = "[redacted]"

// credentialWords mark the names of headers that carry credentials or proofs: a signature can be replayed while it is fresh.
var credentialWords = []string{"auth", "cookie", "signature", "token", "secret", "hmac", "api-key", "apikey", "password", "session", "jwt", "credential", "challenge", "-key"}

// redact copies header lines without their credentials.
func redact(headers []*eventv1.Header) []*eventv1.Header {
	out := make([]*eventv1.Header, len(headers))
	for i, h := range headers {
		out[i] = h
		name := strings.ToLower(h.GetName())
		for _, word := range credentialWords {
			if strings.Contains(name, word) {
				out[i] = &eventv1.Header{Name: h.GetName(), Value: []byte(redacted)}
				break
			}
		}
	}
	return out
}

// clean makes text from outside fit for a message.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
