package preset

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// minLeeway is how far a token may come from the future: clocks differ.
const minLeeway = time.Minute

func (j *JWT) symmetric() bool { return j == nil || slices.Contains(j.Algorithms, "HS256") }

// token proves a delivery by a JSON Web Token (RFC 7519). Which algorithms count is the preset's decision, never the token's.
func (v *variant) token(r *Request, keys *Keys, prepared []key, o Options) (Proof, *Refusal) {
	found, raw := v.signature.values(r, nil)
	if raw == 0 {
		return Proof{}, &Refusal{Code: CodeSignatureMissing, Reason: fmt.Sprintf("the token is missing: %s", v.signature.place())}
	}
	malformed := &Refusal{Code: CodeSignatureMalformed, Reason: fmt.Sprintf("%s holds no token of the form %q + JWT", v.signature.place(), v.signature.Prefix)}
	if len(found) == 0 {
		return Proof{}, malformed
	}
	parts := strings.Split(found[0], ".")
	if len(parts) != 3 {
		return Proof{}, malformed
	}
	head, err1 := decodeToken(parts[0])
	claims, err2 := decodeToken(parts[1])
	signature, err3 := base64.RawURLEncoding.DecodeString(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return Proof{}, malformed
	}
	defer head.Free()
	defer claims.Free()
	algorithm := head.Root().Field("alg").Text()
	if !slices.Contains(v.JWT.Algorithms, algorithm) {
		return Proof{}, &Refusal{Code: CodeSignatureMismatch, Reason: fmt.Sprintf("the token says it is signed by %.20q; only %s are accepted", algorithm, strings.Join(v.JWT.Algorithms, ", "))}
	}
	signed := []byte(parts[0] + "." + parts[1])
	s, refusal := v.match(r, keys, prepared, o, func(k *key) bool { return k.signedToken(algorithm, signed, signature) })
	if refusal != nil {
		if refusal.Code == CodeSignatureMismatch {
			refusal.Reason = fmt.Sprintf("the token in %s was not signed with any of the source's %d secrets", v.signature.place(), len(prepared))
		}
		return Proof{}, refusal
	}
	if refusal := v.claims(r, claims, o); refusal != nil {
		return Proof{}, refusal
	}
	sent, _ := claimTime(claims, "iat")
	return Proof{Secret: s, Assurance: v.Assurance, SentAt: sent}, v.required(r)
}

func decodeToken(part string) (*jsonvalue.Doc, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil {
		return nil, err
	}
	return jsonvalue.Parse(raw)
}

// signedToken checks a token's signature. A public key is never used as the key of an HMAC: it is of another kind.
func (k *key) signedToken(algorithm string, signed, signature []byte) bool {
	switch public := k.public.(type) {
	case nil:
		return algorithm == "HS256" && k.hmac.defined() && same(k.hmac.sum(nil, signed), signature)
	case *rsa.PublicKey:
		return algorithm == "RS256" && verifyPublic("rsa-sha256", public, signed, signature)
	case *ecdsa.PublicKey:
		if algorithm != "ES256" || len(signature) != 64 {
			return false
		}
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})
		return err == nil && verifyPublic("ecdsa-p256", public, signed, der)
	}
	return false
}

func claimTime(claims *jsonvalue.Doc, name string) (time.Time, bool) {
	raw := claims.Root().Field(name).Raw()
	if raw == "" {
		return time.Time{}, false
	}
	micros, ok := expr.ParseMicros(raw)
	return time.UnixMicro(micros), ok
}

// claims checks what the token says.
func (v *variant) claims(r *Request, claims *jsonvalue.Doc, o Options) *Refusal {
	if !o.SkipFreshness {
		if refusal := v.tokenAge(claims, o.Now); refusal != nil {
			return refusal
		}
	}
	sum := sha256.Sum256(r.Body)
	in := expr.Input{
		Document: true, Body: claims, Headers: (*headerFields)(r), Query: (*queryFields)(r), Method: r.Method, URL: r.URL,
		Vars: map[string]string{
			"request_url": r.URL, "request_path": target(r.URL), "request_qsh": queryHash(r.Method, r.URL),
			"request_sha256": hex.EncodeToString(sum[:]), "request_sha256_base64": base64.StdEncoding.EncodeToString(sum[:]),
		},
	}
	for i, e := range v.jwtClaims {
		if !e.Bool(&in) {
			return &Refusal{Code: CodeClaim, Reason: v.JWT.Claims[i].Reason}
		}
	}
	return nil
}

// tokenAge checks exp, nbf and iat.
func (v *variant) tokenAge(claims *jsonvalue.Doc, now time.Time) *Refusal {
	leeway, early := v.JWT.Leeway, max(v.JWT.Leeway, minLeeway)
	exp, hasExp := claimTime(claims, "exp")
	iat, hasIat := claimTime(claims, "iat")
	nbf, hasNbf := claimTime(claims, "nbf")
	switch {
	case !hasExp && (v.JWT.NeedExp == nil || *v.JWT.NeedExp):
		return &Refusal{Code: CodeClaim, Reason: "the token has no exp: it would be valid for ever"}
	case hasExp && now.After(exp.Add(leeway)):
		return &Refusal{Code: CodeTimestampStale, Debt: true, SentAt: iat, Reason: fmt.Sprintf("the token is signed rightly, but expired %s ago", now.Sub(exp).Round(time.Second))}
	case v.JWT.MaxAge > 0 && (!hasIat || now.After(iat.Add(v.JWT.MaxAge+leeway))):
		return &Refusal{Code: CodeTimestampStale, Debt: true, SentAt: iat, Reason: fmt.Sprintf("the token is signed rightly, but older than %s", v.JWT.MaxAge)}
	case hasNbf && now.Before(nbf.Add(-early)), hasIat && now.Before(iat.Add(-early)):
		return &Refusal{Code: CodeTimestampFuture, Debt: true, SentAt: iat, Reason: "the token is signed rightly, but from the future: check the clocks"}
	}
	return nil
}

// queryHash is Atlassian's qsh: the hash of method, path and sorted query (developer.atlassian.com, "Understanding JWT for
// Connect apps"). The parameter jwt does not count.
func queryHash(method, raw string) string {
	path, query, _ := strings.Cut(target(raw), "?")
	values, _ := url.ParseQuery(query)
	var parts []string
	for name, vs := range values {
		if name == "jwt" {
			continue
		}
		var each []string
		for _, v := range vs {
			each = append(each, percent(v))
		}
		slices.Sort(each)
		parts = append(parts, percent(name)+"="+strings.Join(each, ","))
	}
	slices.Sort(parts)
	if path = strings.TrimSuffix(path, "/"); path == "" {
		path = "/"
	}
	sum := sha256.Sum256([]byte(strings.ToUpper(method) + "&" + strings.ReplaceAll(path, "&", "%26") + "&" + strings.Join(parts, "&")))
	return hex.EncodeToString(sum[:])
}

// percent escapes as RFC 3986 says: a space is %20.
func percent(s string) string {
	return strings.NewReplacer("+", "%20", "%7E", "~").Replace(url.QueryEscape(s))
}
