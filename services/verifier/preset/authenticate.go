package preset

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // for RSA with SHA-1, where a sender has nothing better
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Refusal is why a delivery is not authentic.
type Refusal struct {
	// Code is stable, for machines.
	Code string
	// Reason is for a person. It never holds a secret or what the signature should have been.
	Reason string
	// Debt: the signature was right but the delivery is too old, so that its content has to be fetched in another way.
	Debt bool
	// SentAt is the signed time of sending of a refusal that is a debt.
	SentAt time.Time
}

// Proof is the proof of a delivery.
type Proof struct {
	// Secret is the number of the secret that matched; -1: none was needed.
	Secret int
	// Assurance is body, sender or none.
	Assurance string
	// SentAt is the signed time of sending; zero if the signature covers none.
	SentAt time.Time
}

// Options are how a delivery is judged.
type Options struct {
	Now time.Time
	// SkipFreshness leaves the age of the timestamp unchecked.
	SkipFreshness bool
	// Unsigned accepts what proves nothing, if the preset has no better way: the source says so on purpose.
	Unsigned bool
}

// Refusal codes.
const (
	CodeMethod             = "METHOD_NOT_ALLOWED"
	CodeNoSecret           = "NO_SECRET"
	CodeSignatureMissing   = "SIGNATURE_MISSING"
	CodeSignatureMalformed = "SIGNATURE_MALFORMED"
	CodeSignatureMismatch  = "SIGNATURE_MISMATCH"
	CodeSecretExpired      = "SECRET_EXPIRED"
	CodeTimestampMissing   = "TIMESTAMP_MISSING"
	CodeTimestampMalformed = "TIMESTAMP_MALFORMED"
	CodeTimestampStale     = "TIMESTAMP_STALE"
	CodeTimestampFuture    = "TIMESTAMP_FUTURE"
	CodeIDMissing          = "ID_MISSING"
	CodeClaim              = "CLAIM_MISMATCH"
	CodeRequirement        = "REQUIREMENT_NOT_MET"
)

// rank orders refusals: the one that came furthest tells most.
var rank = []string{
	CodeNoSecret, CodeSignatureMissing, CodeIDMissing, CodeTimestampMissing, CodeTimestampMalformed, CodeSignatureMalformed,
	CodeSignatureMismatch, CodeSecretExpired, CodeClaim, CodeRequirement, CodeTimestampFuture, CodeTimestampStale,
}

// Authenticate proves a delivery or says why it is refused.
func (c *Compiled) Authenticate(r *Request, keys *Keys, o Options) (Proof, *Refusal) {
	if !slices.Contains(c.methods, r.Method) {
		return Proof{}, &Refusal{Code: CodeMethod, Reason: fmt.Sprintf("%s uses %s, not %s", c.Name, strings.Join(c.methods, " or "), r.Method)}
	}
	var best *Refusal
	for i := range c.variants {
		v := &c.variants[i]
		if v.Algorithm == "none" && !o.Unsigned || v.when.Defined() && !v.when.Bool(&r.in) {
			continue
		}
		proof, refusal := v.authenticate(r, keys, keys.variant(i), o)
		if refusal == nil {
			return proof, nil
		}
		if best == nil || slices.Index(rank, refusal.Code) >= slices.Index(rank, best.Code) {
			best = refusal
		}
	}
	if o.Unsigned && keys.Pending() {
		return Proof{Secret: -1, Assurance: "none"}, nil
	}
	if best == nil {
		best = &Refusal{Code: CodeNoSecret, Reason: fmt.Sprintf("the source has no secret that fits preset %s, or the request has nothing of what it signs with", c.Name)}
	}
	return Proof{}, best
}

// authenticate tries one variant: all its signatures with all secrets. The age is looked at last, so that only what is
// authentic can become a debt.
func (v *variant) authenticate(r *Request, keys *Keys, prepared []key, o Options) (Proof, *Refusal) {
	switch v.Algorithm {
	case "none":
		return Proof{Secret: -1, Assurance: "none"}, v.required(r)
	case "each":
		return v.each(r, keys, prepared, o)
	case "jwt":
		return v.token(r, keys, prepared, o)
	}
	if !usable(prepared, keys) {
		return Proof{}, v.mismatch(r, keys, -1, 0) // what it would look for is not what the source's sender sends
	}
	in := messageInput{Request: r}
	if refusal := v.signatures(r); refusal != nil {
		return Proof{}, refusal
	}
	at, refusal := v.stamp(r, &in)
	if refusal != nil {
		return Proof{}, refusal
	}
	if v.ID != "" {
		if in.id, _ = r.Header(v.ID); in.id == "" {
			return Proof{}, &Refusal{Code: CodeIDMissing, Reason: fmt.Sprintf("the header %s, which the signature covers, is missing", v.ID)}
		}
	}
	s, refusal := v.match(r, keys, prepared, o, func(k *key) bool { return v.proves(r, k, &in) })
	if refusal != nil {
		return Proof{}, refusal
	}
	if refusal := v.required(r); refusal != nil {
		return Proof{}, refusal
	}
	if refusal := v.fresh(at, o.Now); refusal != nil && !o.SkipFreshness {
		return Proof{}, refusal
	}
	if v.Timestamp == nil || v.Timestamp.Unsigned {
		at = time.Time{}
	}
	return Proof{Secret: s, Assurance: v.Assurance, SentAt: at}, nil
}

// usable says whether one of the secrets can be a key. The one that matched last most likely can.
func usable(prepared []key, keys *Keys) bool {
	if last := int(keys.last.Load()); last < len(prepared) && prepared[last].err == nil {
		return true
	}
	for i := range prepared {
		if prepared[i].err == nil {
			return true
		}
	}
	return false
}

// match finds the secret that proves the delivery. The one that did so last is tried first.
func (v *variant) match(r *Request, keys *Keys, prepared []key, o Options, proves func(*key) bool) (int, *Refusal) {
	expired, tried := -1, 0
	first := int(keys.last.Load())
	for n := range prepared {
		i := n
		switch {
		case first >= len(prepared):
		case n == 0:
			i = first
		case n <= first:
			i = n - 1
		}
		k := &prepared[i]
		if k.err != nil {
			continue
		}
		tried++
		if !proves(k) {
			continue
		}
		if !k.notAfter.IsZero() && o.Now.After(k.notAfter) {
			expired = i
			continue
		}
		if i != first {
			keys.last.Store(int32(i))
		}
		return i, nil
	}
	return -1, v.mismatch(r, keys, expired, tried)
}

// mismatch says why no secret proved the delivery.
func (v *variant) mismatch(r *Request, keys *Keys, expired, tried int) *Refusal {
	switch {
	case expired >= 0:
		return &Refusal{Code: CodeSecretExpired, Reason: fmt.Sprintf("the signature was made with secret %d, which was valid until %s", expired, keys.secrets[expired].NotAfter.UTC().Format(time.RFC3339))}
	case tried == 0:
		return &Refusal{Code: CodeNoSecret, Reason: fmt.Sprintf("none of the source's %d secrets can be a key for %s", len(keys.secrets), v.Algorithm)}
	case v.Algorithm == "token" || v.Algorithm == "basic" || v.Algorithm == "each":
		return &Refusal{Code: CodeSignatureMismatch, Reason: fmt.Sprintf("the credential in %s is none of the source's %d secrets", v.signature.place(), tried)}
	}
	return &Refusal{Code: CodeSignatureMismatch, Reason: fmt.Sprintf(
		"the signature in %s does not fit the request under any of %d secrets (%s over %q; the body has %d bytes): check the secret, and that nothing on the way changes the body%s",
		v.signature.place(), tried, v.Algorithm, v.Message, len(r.Body), v.urlHint())}
}

// urlHint names what else may be wrong where the address is signed.
func (v *variant) urlHint() string {
	if strings.Contains(v.Message, "{url") || strings.Contains(v.Message, "{path}") || strings.Contains(v.Message, "{host}") {
		return "; the signature covers the address, so public_url must be exactly the one that the provider calls"
	}
	return ""
}

// proves checks all signatures of the request with one key.
func (v *variant) proves(r *Request, k *key, in *messageInput) bool {
	in.key = k
	for i := range v.messages {
		body := r.message(&v.messages[i], in)
		var proof []byte
		switch {
		case k.hmac.defined():
			r.digest = k.hmac.sum(r.digest[:0], body)
			proof = r.digest
		case v.hash != nil:
			r.digest = v.hash.sum(r.digest[:0], body)
			proof = r.digest
		}
		for _, signature := range r.proofs {
			if v.fits(k, proof, body, signature) {
				r.signed = body
				return true
			}
		}
	}
	return false
}

// message builds what is signed, in the request's own memory.
func (r *Request) message(m *message, in *messageInput) []byte {
	if m.whole {
		return r.Body
	}
	r.buffer = m.build(r.buffer[:0], in)
	return r.buffer
}

// fits checks one signature. Everything is compared in constant time.
func (v *variant) fits(k *key, proof, message, signature []byte) bool {
	switch {
	case proof != nil:
		return same(proof, signature)
	case v.Algorithm == "token" || v.Algorithm == "basic":
		return sameText(k.raw, signature)
	}
	return verifyPublic(v.Algorithm, k.public, message, signature)
}

// verifyPublic checks a signature with a public key.
func verifyPublic(algorithm string, public crypto.PublicKey, message, signature []byte) bool {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(public, message, signature)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(public, sum[:], signature)
	case *rsa.PublicKey:
		if algorithm == "rsa-sha1" {
			sum := sha1.Sum(message) //nolint:gosec // see above
			return rsa.VerifyPKCS1v15(public, crypto.SHA1, sum[:], signature) == nil
		}
		sum := sha256.Sum256(message)
		if algorithm == "rsa-pss-sha256" {
			return rsa.VerifyPSS(public, crypto.SHA256, sum[:], signature, nil) == nil
		}
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// signatures collects what could be a signature.
func (v *variant) signatures(r *Request) *Refusal {
	var raw int
	r.found, raw = v.signature.values(r, r.found[:0])
	if raw == 0 {
		return &Refusal{Code: CodeSignatureMissing, Reason: fmt.Sprintf("%s is missing", v.signature.place())}
	}
	r.proofs, r.scratch = r.proofs[:0], r.scratch[:0]
	for _, s := range r.found {
		n := len(r.scratch)
		out, err := decodeSignature(r.scratch, v.decoding(), s)
		if err == nil && len(out) > n {
			r.scratch = out
			r.proofs = append(r.proofs, out[n:len(out):len(out)])
		}
	}
	if len(r.proofs) == 0 {
		want := "text"
		if v.Encoding != "" {
			want = v.Encoding
		}
		return &Refusal{Code: CodeSignatureMalformed, Reason: fmt.Sprintf("%s holds no signature of the form %q + %s", v.signature.place(), v.signature.Prefix, want)}
	}
	return nil
}

func (v *variant) decoding() string {
	if v.Algorithm == "basic" {
		return "base64"
	}
	return v.Encoding
}

// each checks that every item carries a token that is good for it.
func (v *variant) each(r *Request, keys *Keys, prepared []key, o Options) (Proof, *Refusal) {
	if t := r.decode(); t != nil {
		return Proof{}, &Refusal{Code: CodeSignatureMissing, Reason: "the items, which carry the credential, cannot be read: " + t.Reason}
	}
	items, ok := v.items.List(&r.in)
	if !ok || len(items) == 0 {
		return Proof{}, &Refusal{Code: CodeSignatureMissing, Reason: fmt.Sprintf("the body holds no items at %s, which carry the credential", v.Items)}
	}
	if len(items) > MaxItems {
		return Proof{}, &Refusal{Code: CodeSignatureMalformed, Reason: fmt.Sprintf("the body holds %d items, at most %d are taken", len(items), MaxItems)}
	}
	defer func() { r.in.Item = nil }()
	secret := -1
	for i, item := range items {
		r.in.Item = item
		token, ok := v.signature.body.String(&r.in)
		if !ok {
			return Proof{}, &Refusal{Code: CodeSignatureMissing, Reason: fmt.Sprintf("item %d carries no %s", i, v.signature.Body)}
		}
		of, _ := v.forItem.String(&r.in)
		s, refusal := v.match(r, keys, prepared, o, func(k *key) bool { return k.good(of) && sameText(k.raw, []byte(token)) })
		if refusal != nil {
			refusal.Reason = fmt.Sprintf("item %d: %s", i, refusal.Reason)
			return Proof{}, refusal
		}
		secret = s
	}
	return Proof{Secret: secret, Assurance: v.Assurance}, v.required(r)
}

// good says whether the secret is one for what an item names.
func (k *key) good(of string) bool { return k.only == "" || k.only == of }

// required checks the conditions beyond the signature.
func (v *variant) required(r *Request) *Refusal {
	if v.Digest != nil && !v.digested(r) {
		return &Refusal{Code: CodeSignatureMismatch, Reason: fmt.Sprintf("the signature is right, but the body is another one than %s says", v.digest.place())}
	}
	if len(v.require) > 0 {
		_ = r.decode() // what cannot be read is absent
	}
	for i, e := range v.require {
		if !e.Bool(&r.in) {
			return &Refusal{Code: CodeRequirement, Reason: v.Require[i].Reason}
		}
	}
	return nil
}

// digested says whether the body is the one whose hash was signed.
func (v *variant) digested(r *Request) bool {
	values, _ := v.digest.values(r, nil)
	sum := hashes()[v.Digest.Algorithm].sum(nil, r.Body)
	for _, s := range values {
		if b, err := decodeSignature(nil, v.Digest.Encoding, s); err == nil && same(b, sum) {
			return true
		}
	}
	return false
}
