package preset

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Sign adds the headers that a real source would send with a body: signature, timestamp, ids. Headers that are already set
// stay. It is for `hookmesh send` and for tests; the preset says how, as it does for verification.
func (p *Preset) Sign(header http.Header, secret, method, url string, body []byte, now time.Time) error {
	for name, value := range p.SignAs {
		if header.Get(name) == "" {
			header.Set(name, strings.ReplaceAll(value, "{{random}}", rand.Text()))
		}
	}
	for _, spec := range p.Verify {
		c := &compiler{}
		v := c.variant(p.Name, spec)
		if len(c.errs) > 0 {
			return errors.Join(c.errs...)
		}
		key, err := signingKey(v, secret)
		if err != nil {
			continue
		}
		if v.Timestamp != nil && v.Timestamp.Prefix == "" && header.Get(v.Timestamp.Header) == "" {
			header.Set(v.Timestamp.Header, strconv.FormatInt(now.Unix(), 10))
		}
		req := &Request{Method: method, URL: url, Header: header, Body: body}
		stamp, refusal := v.timestamp(req)
		if refusal != nil {
			return errors.New(refusal.Reason)
		}
		signature, err := v.sign(key, v.message(req, stamp))
		if err != nil {
			return err
		}
		header.Set(v.Signature.Header, v.Signature.Prefix+signature)
		return nil
	}
	return fmt.Errorf("the secret does not fit preset %s", p.Name)
}

// signingKey is the key to sign with. Ed25519 verifies with a public key (whpk_…) and signs with a private one (whsk_…).
func signingKey(v variant, secret string) ([]byte, error) {
	if v.Algorithm == "ed25519" {
		v.Key.Require, v.Key.Strip = "whsk_", []string{"whsk_"}
	}
	return v.Key.key(secret)
}

func (v *variant) sign(key, message []byte) (string, error) {
	var raw []byte
	switch {
	case hashes[v.Algorithm] != nil:
		raw = mac(hashes[v.Algorithm], key, message)
	case v.Algorithm == "token":
		return string(key), nil
	case v.Algorithm == "basic":
		return base64.StdEncoding.EncodeToString(key), nil
	case v.Algorithm == "ed25519" && len(key) == ed25519.SeedSize:
		raw = ed25519.Sign(ed25519.NewKeyFromSeed(key), message)
	case v.Algorithm == "ed25519" && len(key) == ed25519.PrivateKeySize:
		raw = ed25519.Sign(key, message)
	default:
		return "", fmt.Errorf("cannot sign with %s and this key", v.Algorithm)
	}
	if v.Encoding == "hex" {
		return hex.EncodeToString(raw), nil
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}
