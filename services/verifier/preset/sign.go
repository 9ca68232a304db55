package preset

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // for RSA with SHA-1, where a sender has nothing better
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// ErrCannotSign says that the credential stands where the body has no place for it, or that only the provider can make it.
var ErrCannotSign = errors.New("hookmesh cannot sign for this preset")

// Delivery is a request that is signed.
type Delivery struct {
	Header      http.Header
	Method, URL string
	Body        []byte
}

// Sign adds what a real source would send with a body: signature, timestamp, ids. Headers that are already set stay. Where the
// credential stands in the query or in the body, URL or Body become others; a time that stands in the body is now. It is for
// `hookmesh send` and for tests; the preset says how, as it does for verification. For public keys the secret is the private one:
// PEM, or whsk_… (Ed25519).
func (p *Preset) Sign(d *Delivery, secret string, now time.Time) error {
	for name, value := range p.SignAs {
		if d.Header.Get(name) == "" {
			d.Header.Set(name, strings.ReplaceAll(value, "{{random}}", rand.Text()))
		}
	}
	compiled, err := p.Compile(Overrides{})
	if err != nil {
		return err
	}
	last := fmt.Errorf("the secret does not fit preset %s", p.Name)
	for i := range compiled.variants {
		v := &compiled.variants[i]
		if v.Algorithm == "none" {
			return nil
		}
		if err := v.sign(compiled, d, secret, now); err != nil {
			last = err
			continue
		}
		return nil
	}
	return last
}

// sign signs by one variant.
func (v *variant) sign(c *Compiled, d *Delivery, secret string, now time.Time) error {
	signer, err := v.signer(secret)
	if err != nil {
		return err
	}
	trial := *d
	trial.Header = d.Header.Clone()
	if err := v.furnish(&trial, now); err != nil {
		return err
	}
	if v.Algorithm == "each" {
		if trial.Body, err = eachIn(trial.Body, v.Items, strings.TrimPrefix(v.signature.Body, "item."), string(signer.secret)); err != nil {
			return fmt.Errorf("%w: its credential stands in %s of every item: %w", ErrCannotSign, v.signature.place(), err)
		}
		*d = trial
		return nil
	}
	req := &Request{}
	defer req.Free()
	req.Reset(c, trial.Method, trial.URL, lines(trial.Header), trial.Body)
	if v.when.Defined() && !v.when.Bool(&req.in) {
		return fmt.Errorf("its condition does not hold: %s", v.When)
	}
	in := messageInput{Request: req, id: trial.Header.Get(v.ID), key: &key{raw: signer.secret}}
	if _, refusal := v.stamp(req, &in); refusal != nil {
		return errors.New(refusal.Reason)
	}
	signature, err := signer.sign(v, req, &in, now)
	if err != nil {
		return err
	}
	value := v.signature.Prefix + signature
	switch {
	case v.signature.Header != "":
		if t := v.Timestamp; t != nil && t.Header == v.signature.Header {
			value = t.Prefix + in.stamp + v.signature.Separator + value
		}
		trial.Header.Set(v.signature.Header, value)
	case v.signature.Query != "":
		trial.URL = withParameter(trial.URL, v.signature.Query, value)
	default:
		if trial.Body, err = withField(trial.Body, v.signature.Body, value); err != nil {
			return fmt.Errorf("%w: its credential stands in %s: %w", ErrCannotSign, v.signature.place(), err)
		}
	}
	for name, values := range trial.Header {
		d.Header[name] = values
	}
	d.URL, d.Body = trial.URL, trial.Body
	return nil
}

// stands finds values of the body that a message is made of.
var stands = regexp.MustCompile(`\{=([A-Za-z_][A-Za-z0-9_.]*)\}`)

// furnish puts into the request what is signed besides its body: the time, a token, a digest of the body.
func (v *variant) furnish(d *Delivery, now time.Time) (err error) {
	if t := v.Timestamp; t != nil && t.Body != "" {
		var value any = v.stampText(now)
		if t.Unit != "rfc3339" {
			value = json.Number(v.stampText(now))
		}
		if d.Body, err = withField(d.Body, t.Body, value); err != nil {
			return fmt.Errorf("put the time into the body: %w", err)
		}
	} else if t != nil && t.Header != "" && d.Header.Get(t.Header) == "" {
		d.Header.Set(t.Header, t.Prefix+v.stampText(now))
	}
	for _, path := range stands.FindAllStringSubmatch(v.Message, -1) {
		if v.signature.Body == "" {
			break // what the body holds is signed as it is
		}
		if d.Body, err = withField(d.Body, path[1], rand.Text()); err != nil {
			return fmt.Errorf("put a token into the body: %w", err)
		}
	}
	if g := v.Digest; g != nil && g.Query != "" {
		sum := digestOf(g.Algorithm, d.Body)
		text := hex.EncodeToString(sum)
		if g.Encoding == "base64" {
			text = base64.StdEncoding.EncodeToString(sum)
		}
		d.URL = withParameter(d.URL, g.Query, text)
	}
	return nil
}

// stampText is a time as the preset writes it.
func (v *variant) stampText(now time.Time) string {
	t := v.Timestamp
	text := strconv.FormatInt(now.Unix(), 10)
	switch t.Unit {
	case "ms":
		text = strconv.FormatInt(now.UnixMilli(), 10)
	case "us":
		text = strconv.FormatInt(now.UnixMicro(), 10)
	case "rfc3339":
		text = now.UTC().Format(time.RFC3339)
	}
	return text
}

// lines are a header's lines as the gateway would hand them on.
func lines(header http.Header) []*eventv1.Header {
	var out []*eventv1.Header
	for name, values := range header {
		for _, v := range values {
			out = append(out, &eventv1.Header{Name: name, Value: []byte(v)})
		}
	}
	return out
}

// signer holds what signs.
type signer struct {
	secret  []byte
	key     key
	private crypto.Signer
}

// signer makes the secret ready to sign with.
func (v *variant) signer(secret string) (*signer, error) {
	if v.Algorithm == "ed25519" || v.Algorithm == "ecdsa-p256" || strings.HasPrefix(v.Algorithm, "rsa-") || v.Algorithm == "jwt" && !v.JWT.symmetric() {
		private, err := privateKey(secret)
		return &signer{private: private}, err
	}
	k := v.prepare(Secret{Value: secret, Kind: v.Key.Kind})
	return &signer{secret: k.raw, key: k}, k.err
}

func privateKey(secret string) (crypto.Signer, error) {
	if block, _ := pem.Decode([]byte(secret)); block != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if s, ok := parsed.(crypto.Signer); ok && err == nil {
			return s, nil
		}
		return nil, errors.New("the secret is no private key (PKCS #8)")
	}
	seed, err := appendBase64(nil, strings.TrimPrefix(secret, "whsk_"))
	switch {
	case err == nil && len(seed) == ed25519.SeedSize:
		return ed25519.NewKeyFromSeed(seed), nil
	case err == nil && len(seed) == ed25519.PrivateKeySize:
		return ed25519.PrivateKey(seed), nil
	}
	return nil, errors.New("signing for this preset needs a private key: PEM, or whsk_… for Ed25519")
}

// sign makes the signature as it stands in the header.
func (s *signer) sign(v *variant, r *Request, in *messageInput, now time.Time) (string, error) {
	switch v.Algorithm {
	case "token":
		return string(s.secret), nil
	case "basic":
		return base64.StdEncoding.EncodeToString(s.secret), nil
	case "jwt":
		return s.token(v, r, now)
	}
	message := r.message(&v.messages[0], in)
	raw, err := s.raw(v, message)
	if err != nil {
		return "", err
	}
	switch v.Encoding {
	case "hex":
		return hex.EncodeToString(raw), nil
	case "base64":
		return base64.StdEncoding.EncodeToString(raw), nil
	}
	return "", fmt.Errorf("%w: nothing encodes %s here", ErrCannotSign, v.Encoding)
}

func (s *signer) raw(v *variant, message []byte) ([]byte, error) {
	switch {
	case s.key.hmac.defined():
		return s.key.hmac.sum(nil, message), nil
	case v.hash != nil:
		return v.hash.sum(nil, message), nil
	}
	switch private := s.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(private, message), nil
	case *ecdsa.PrivateKey:
		sum := sha256.Sum256(message)
		return ecdsa.SignASN1(rand.Reader, private, sum[:])
	case *rsa.PrivateKey:
		if v.Algorithm == "rsa-sha1" {
			sum := sha1.Sum(message) //nolint:gosec // see above
			return rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA1, sum[:])
		}
		sum := sha256.Sum256(message)
		if v.Algorithm == "rsa-pss-sha256" {
			return rsa.SignPSS(rand.Reader, private, crypto.SHA256, sum[:], nil)
		}
		return rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
	}
	return nil, fmt.Errorf("%w with %s and this key", ErrCannotSign, v.Algorithm)
}

// token makes a JSON Web Token with the claims that senders usually set.
func (s *signer) token(v *variant, r *Request, now time.Time) (string, error) {
	sum := sha256.Sum256(r.Body)
	claims := fmt.Sprintf(`{"iss":"hookmesh","iat":%d,"exp":%d,"aud":%q,"qsh":%q,"webhook_url":%q,"body_sha256":%q}`,
		now.Unix(), now.Add(3*time.Minute).Unix(), r.URL, queryHash(r.Method, r.URL), r.URL, hex.EncodeToString(sum[:]))
	algorithm := v.JWT.Algorithms[0]
	head := fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, algorithm)
	signed := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	var raw []byte
	var err error
	switch algorithm {
	case "HS256":
		raw = s.key.hmac.sum(nil, []byte(signed))
	case "RS256":
		raw, err = s.raw(&variant{Variant: Variant{Algorithm: "rsa-sha256"}}, []byte(signed))
	default:
		err = fmt.Errorf("%w with %s", ErrCannotSign, algorithm)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(raw), err
}
