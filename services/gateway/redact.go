package gateway

import (
	"net/url"
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

// maxKeptHeaders bounds what an event carries of its request's headers, in bytes.
const maxKeptHeaders = 4 << 10

// keptHeaders are the headers of the delivery as its events carry them, so that what is given up later can still be explained; nil
// if they are too many.
func (a *acceptance) keptHeaders() []*eventv1.Header {
	if a.headers == nil {
		size := 0
		for _, h := range a.delivery.GetHeaders() {
			size += len(h.GetName()) + len(h.GetValue())
		}
		if a.headers = []*eventv1.Header{}; size <= maxKeptHeaders {
			a.headers = redact(a.delivery.GetHeaders(), a.verdict.GetRedactedHeaders())
		}
	}
	return a.headers
}

// redactURL takes the credentials out of the query of a request's target: the parameters whose names say so, and those that the preset names.
func redactURL(target string, also []string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, _, _ := strings.Cut(part, "=")
		plain, err := url.QueryUnescape(name)
		lower := strings.ToLower(plain)
		says := func(word string) bool { return strings.Contains(lower, word) }
		if err != nil || slices.Contains(also, plain) || says("key") || says("sig") || says("pass") || slices.ContainsFunc(credentialWords, says) {
			parts[i] = name + "=" + url.QueryEscape(redacted)
		}
	}
	return path + "?" + strings.Join(parts, "&")
}

// clean makes text from outside fit for a message.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
