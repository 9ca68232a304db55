package preset

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // GitHub's and others' legacy scheme; HMAC-SHA1 is still unbroken
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// algorithm checks one signature. Every implementation compares in constant time.
type algorithm func(key, message, signature []byte) bool

var hashes = map[string]func() hash.Hash{"hmac-sha1": sha1.New, "hmac-sha256": sha256.New, "hmac-sha512": sha512.New}

// algorithmNamed finds an algorithm.
func algorithmNamed(name string) (algorithm, error) {
	if h, ok := hashes[name]; ok {
		return func(key, message, signature []byte) bool { return hmac.Equal(mac(h, key, message), signature) }, nil
	}
	switch name {
	case "ed25519":
		return func(key, message, signature []byte) bool {
			return len(key) == ed25519.PublicKeySize && len(signature) == ed25519.SignatureSize && ed25519.Verify(key, message, signature)
		}, nil
	case "token", "basic":
		return func(key, _, signature []byte) bool { return equal(key, signature) }, nil
	}
	return nil, fmt.Errorf("unknown algorithm %q", name)
}

func mac(h func() hash.Hash, key, message []byte) []byte {
	m := hmac.New(h, key)
	m.Write(message)
	return m.Sum(nil)
}

// equal compares secrets without telling their length or content by the time it takes.
func equal(a, b []byte) bool {
	ha, hb := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(ha[:], hb[:]) == 1
}

// errOtherKind says that a secret is of a kind that the variant does not use.
var errOtherKind = errors.New("the secret is of another kind")

// key turns a configured secret into a key. Errors never hold the secret.
func (k Key) key(secret string) ([]byte, error) {
	if k.Require != "" && !strings.HasPrefix(secret, k.Require) {
		return nil, errOtherKind
	}
	for _, p := range k.Refuse {
		if strings.HasPrefix(secret, p) {
			return nil, errOtherKind
		}
	}
	for _, p := range k.Strip {
		if s, ok := strings.CutPrefix(secret, p); ok {
			secret = s
			break
		}
	}
	switch k.Encoding {
	case "", "raw":
		return []byte(secret), nil
	case "base64":
		if b, err := decodeBase64(secret); err == nil {
			return b, nil
		}
		return nil, errors.New("the secret is not base64")
	case "hex":
		if b, err := hex.DecodeString(secret); err == nil {
			return b, nil
		}
		return nil, errors.New("the secret is not hexadecimal")
	}
	return nil, fmt.Errorf("unknown key encoding %q", k.Encoding)
}

// decodeBase64 takes all four alphabets and paddings that senders use.
func decodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if strings.ContainsAny(s, "-_") {
		return base64.RawURLEncoding.DecodeString(s)
	}
	return base64.RawStdEncoding.DecodeString(s)
}

// maxSignatures bounds how many signatures of one request are tried.
const maxSignatures = 16

// values returns what stands in the field, with prefixes cut off. raw counts values before the prefix was looked at.
func (f Field) values(headers func(string) []string) (found []string, raw int) {
	for _, line := range headers(f.Header) {
		parts := []string{line}
		if f.Separator != "" {
			parts = strings.Split(line, f.Separator)
		}
		for _, part := range parts {
			raw++
			value, ok := strings.CutPrefix(strings.TrimSpace(part), f.Prefix)
			if ok && len(found) < maxSignatures {
				found = append(found, value)
			}
		}
	}
	return found, raw
}

// decodeSignature turns text into bytes; ok is false if it cannot be a signature.
func decodeSignature(encoding, s string) ([]byte, bool) {
	if s == "" {
		return nil, false
	}
	var b []byte
	var err error
	switch encoding {
	case "hex":
		b, err = hex.DecodeString(s)
	case "base64":
		b, err = decodeBase64(s)
	default:
		b = []byte(s)
	}
	return b, err == nil && len(b) > 0
}
