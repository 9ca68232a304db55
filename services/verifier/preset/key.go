package preset

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Secret is one configured secret.
type Secret struct {
	Value    string
	NotAfter time.Time
	// Kind is what it is: empty for the usual one of its preset.
	Kind string
	// For is what it is good for (a subscription); empty: everything.
	For string
}

// key is a secret made ready for one variant. It never changes. What each delivery needs comes first.
type key struct {
	err error
	// notAfter is when the secret ends; zero: never.
	notAfter time.Time
	hmac     hmacKey
	raw      []byte
	public   crypto.PublicKey
	// only is what the secret is good for; empty: everything.
	only string
}

// Keys are a source's secrets, prepared once for every variant of its preset.
type Keys struct {
	// last is the secret that matched last. It is tried first, so that a source with several secrets costs no more than one.
	last atomic.Int32
	// keys are the secrets for each variant, one variant after the other.
	keys    []key
	secrets []Secret
	// computes[h][s] is secret s for handshake h.
	computes [][]key
}

// variant are the secrets for one variant, in their order.
func (k *Keys) variant(v int) []key {
	n := len(k.secrets)
	return k.keys[v*n : (v+1)*n]
}

// errOtherKind says that a secret is of a kind that the variant does not use.
var errOtherKind = errors.New("the secret is of another kind")

// Prepare makes secrets ready.
func (c *Compiled) Prepare(secrets []Secret) *Keys {
	k := &Keys{secrets: secrets, keys: make([]key, 0, len(c.variants)*len(secrets)), computes: make([][]key, len(c.handshakes))}
	for i := range c.variants {
		for _, s := range secrets {
			k.keys = append(k.keys, c.variants[i].prepare(s))
		}
	}
	for i := range c.handshakes {
		if spec := c.handshakes[i].Compute; spec != nil {
			v := variant{Variant: Variant{Algorithm: spec.Algorithm, Key: spec.Key}}
			for _, s := range secrets {
				k.computes[i] = append(k.computes[i], v.prepare(s))
			}
		}
	}
	return k
}

// Pending says that there is no secret yet.
func (k *Keys) Pending() bool { return len(k.secrets) == 0 }

// Captures says that the provider hands over its secret itself, so that a source may begin without one.
func (c *Compiled) Captures() bool {
	for i := range c.handshakes {
		if c.handshakes[i].capture.Defined() {
			return true
		}
	}
	return false
}

// prepare makes one secret ready for the variant.
func (v *variant) prepare(s Secret) key {
	if s.Kind != v.Key.Kind {
		return key{err: errOtherKind}
	}
	raw, err := v.Key.bytes(s.Value)
	if err != nil {
		return key{err: err}
	}
	out := key{raw: raw, only: s.For, notAfter: s.NotAfter}
	name, isHMAC := strings.CutPrefix(v.Algorithm, "hmac-")
	switch {
	case isHMAC:
		out.hmac, out.err = newHMACKey(hashes()[name], raw)
	case v.Algorithm == "ed25519", v.Algorithm == "ecdsa-p256", strings.HasPrefix(v.Algorithm, "rsa-"):
		out.public, out.err = publicKey(raw)
	case v.Algorithm == "jwt" && !v.JWT.symmetric():
		out.public, out.err = publicKey(raw)
	case v.Algorithm == "jwt":
		out.hmac, out.err = newHMACKey(hashes()["sha256"], raw)
	}
	if out.err == nil && !fits(v.Algorithm, out.public) {
		out.err = fmt.Errorf("the secret is not a public key for %s", v.Algorithm)
	}
	return out
}

// fits says whether a public key is one of the algorithm's.
func fits(algorithm string, public crypto.PublicKey) bool {
	ok := true
	switch {
	case algorithm == "ed25519":
		_, ok = public.(ed25519.PublicKey)
	case algorithm == "ecdsa-p256":
		_, ok = public.(*ecdsa.PublicKey)
	case strings.HasPrefix(algorithm, "rsa-"):
		_, ok = public.(*rsa.PublicKey)
	}
	return ok
}

// publicKey reads a public key: PEM (also of a certificate), DER, or the 32 bytes of Ed25519.
func publicKey(raw []byte) (crypto.PublicKey, error) {
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(raw)
			if err != nil {
				return nil, errors.New("the certificate cannot be read")
			}
			return cert.PublicKey, nil
		}
	}
	if len(raw) == ed25519.PublicKeySize {
		return ed25519.PublicKey(raw), nil
	}
	if public, err := x509.ParsePKIXPublicKey(raw); err == nil {
		return public, nil
	}
	if public, err := x509.ParsePKCS1PublicKey(raw); err == nil {
		return public, nil
	}
	return nil, errors.New("the secret is not a public key (PEM, or DER in base64)")
}

// bytes turns a configured secret into the bytes of a key. Errors never hold the secret.
func (k Key) bytes(secret string) ([]byte, error) {
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
	if strings.HasPrefix(secret, "-----BEGIN ") {
		return []byte(secret), nil
	}
	switch k.Encoding {
	case "base64":
		if b, err := appendBase64(nil, secret); err == nil {
			return b, nil
		}
		return nil, errors.New("the secret is not base64")
	case "hex":
		if b, err := hex.DecodeString(secret); err == nil {
			return b, nil
		}
		return nil, errors.New("the secret is not hexadecimal")
	}
	return []byte(secret), nil
}

// CheckSecret says whether a secret can be a key of this provider. The error never holds the secret.
func (c *Compiled) CheckSecret(s Secret) error {
	last := error(nil)
	note := func(err error) {
		if last == nil || errors.Is(last, errOtherKind) {
			last = err
		}
	}
	for i := range c.variants {
		k := c.variants[i].prepare(s)
		if k.err == nil {
			return nil
		}
		note(k.err)
	}
	for i := range c.handshakes {
		if t := c.handshakes[i].Token; t != nil && t.Kind == s.Kind {
			return nil
		}
		if spec := c.handshakes[i].Compute; spec != nil && spec.Key.Kind == s.Kind {
			return nil
		}
	}
	if errors.Is(last, errOtherKind) && s.Kind != "" {
		return fmt.Errorf("the preset uses no secret of kind %q; it knows %s", s.Kind, strings.Join(c.kinds(), ", "))
	}
	return last
}

// kinds are the kinds of secrets that the preset uses.
func (c *Compiled) kinds() []string {
	var all []string
	add := func(kind string) {
		if kind == "" {
			kind = "the one without a kind"
		}
		for _, k := range all {
			if k == kind {
				return
			}
		}
		all = append(all, kind)
	}
	for i := range c.variants {
		add(c.variants[i].Key.Kind)
	}
	for i := range c.handshakes {
		if t := c.handshakes[i].Token; t != nil {
			add(t.Kind)
		}
	}
	return all
}

// appendBase64 takes all four alphabets and paddings that senders use.
func appendBase64(out []byte, s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	return encoding.AppendDecode(out, []byte(s))
}
