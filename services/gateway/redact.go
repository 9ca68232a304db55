package gateway

import (
	"slices"
	"strings"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// redacted stands where a credential stood.
const redacted = "[redacted]"

// credentialWords mark the names of headers that carry credentials or proofs: a signature can be replayed while it is fresh.
var credentialWords = []string{"auth", "cookie", "signature", "token", "secret", "hmac", "api-key", "apikey", "password", "session", "jwt", "credential", "challenge", "-key"}

// redact copies header lines without their credentials: those whose names say so, and those that the preset names.
func redact(headers []*eventv1.Header, also []string) []*eventv1.Header {
	out := make([]*eventv1.Header, len(headers))
	for i, h := range headers {
		out[i] = h
		name := strings.ToLower(h.GetName())
		named := func(other string) bool { return strings.EqualFold(other, name) }
		if slices.ContainsFunc(credentialWords, func(word string) bool { return strings.Contains(name, word) }) || slices.ContainsFunc(also, named) {
			out[i] = &eventv1.Header{Name: h.GetName(), Value: []byte(redacted)}
		}
	}
	return out
}

// clean makes text from outside fit for a message.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
