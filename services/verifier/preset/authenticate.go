package preset

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/expr"
)

// Request is one delivery.
type Request struct {
	Method string
	// URL is what signatures over the URL cover: the source's public URL if it has one, else the request target.
	URL string
	// Header has canonical names; lines of one name stand in their order.
	Header http.Header
	Query  map[string]string
	Body   []byte
}

// Secret is one configured secret.
type Secret struct {
	Value    string
	NotAfter time.Time
}

// Refusal is why a delivery is not authentic.
type Refusal struct {
	// Code is stable, for machines.
	Code string
	// Reason is for a person. It never holds a secret or what the signature should have been.
	Reason string
	// Debt: the signature was right but the delivery is too old, so that its content has to be fetched in another way.
	Debt bool
}

// Authentic is the proof of a delivery.
type Authentic struct {
	// Secret is the number of the secret that matched.
	Secret int
	// Assurance is body or sender.
	Assurance string
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
)

// rank orders refusals: the one that came furthest tells most.
var rank = []string{CodeNoSecret, CodeSignatureMissing, CodeIDMissing, CodeTimestampMissing, CodeTimestampMalformed, CodeSignatureMalformed, CodeSignatureMismatch, CodeSecretExpired, CodeTimestampFuture, CodeTimestampStale}

// Authenticate proves a delivery or says why it is refused. skipFreshness leaves the age of the timestamp unchecked.
func (c *Compiled) Authenticate(req *Request, in *expr.Input, secrets []Secret, now time.Time, skipFreshness bool) (Authentic, *Refusal) {
	if !slices.Contains(c.methods, req.Method) {
		return Authentic{}, &Refusal{Code: CodeMethod, Reason: fmt.Sprintf("%s uses %s, not %s", c.Name, strings.Join(c.methods, " or "), req.Method)}
	}
	best := &Refusal{Code: CodeNoSecret, Reason: fmt.Sprintf("the source has no secret that fits preset %s", c.Name)}
	for i := range c.variants {
		v := &c.variants[i]
		if v.when.Defined() && !v.when.Bool(in) {
			continue
		}
		ok, refusal := v.authenticate(req, secrets, now, skipFreshness)
		if refusal == nil {
			return ok, nil
		}
		if slices.Index(rank, refusal.Code) >= slices.Index(rank, best.Code) {
			best = refusal
		}
	}
	return Authentic{}, best
}

// authenticate tries one variant: all its signatures with all secrets. The age is looked at last, so that only what is
// authentic can become a debt.
func (v *variant) authenticate(req *Request, secrets []Secret, now time.Time, skipFreshness bool) (Authentic, *Refusal) {
	signatures, refusal := v.signatures(req)
	if refusal != nil {
		return Authentic{}, refusal
	}
	stamp, refusal := v.timestamp(req)
	if refusal != nil {
		return Authentic{}, refusal
	}
	if v.ID != "" && req.Header.Get(v.ID) == "" {
		return Authentic{}, &Refusal{Code: CodeIDMissing, Reason: fmt.Sprintf("the header %s, which the signature covers, is missing", v.ID)}
	}
	message := v.message(req, stamp)
	expired, tried := -1, 0
	for i, secret := range secrets {
		key, err := v.Key.key(secret.Value)
		if err != nil {
			continue
		}
		tried++
		for _, s := range signatures {
			if !v.check(key, message, s) {
				continue
			}
			if !secret.NotAfter.IsZero() && now.After(secret.NotAfter) {
				expired = i
				continue
			}
			if refusal := v.fresh(stamp, now); refusal != nil && !skipFreshness {
				return Authentic{}, refusal
			}
			return Authentic{Secret: i, Assurance: v.Assurance}, nil
		}
	}
	switch {
	case expired >= 0:
		return Authentic{}, &Refusal{Code: CodeSecretExpired, Reason: fmt.Sprintf("the signature was made with secret %d, which was valid until %s", expired, secrets[expired].NotAfter.UTC().Format(time.RFC3339))}
	case tried == 0:
		return Authentic{}, &Refusal{Code: CodeNoSecret, Reason: fmt.Sprintf("none of the source's %d secrets can be a key for %s", len(secrets), v.Algorithm)}
	}
	return Authentic{}, &Refusal{Code: CodeSignatureMismatch, Reason: fmt.Sprintf(
		"the signature in %s does not fit the request under any of %d secrets (%s; the body has %d bytes): check the secret, and that nothing on the way changes the body",
		v.Signature.Header, tried, v.Algorithm, len(req.Body))}
}

// signatures collects what could be a signature.
func (v *variant) signatures(req *Request) ([][]byte, *Refusal) {
	values, raw := v.Signature.values(func(name string) []string { return req.Header.Values(name) })
	if raw == 0 {
		return nil, &Refusal{Code: CodeSignatureMissing, Reason: fmt.Sprintf("the header %s is missing", v.Signature.Header)}
	}
	var out [][]byte
	for _, s := range values {
		if v.Algorithm == "basic" {
			if b, err := decodeBase64(s); err == nil {
				out = append(out, b)
			}
			continue
		}
		if b, ok := decodeSignature(v.Encoding, s); ok {
			out = append(out, b)
		}
	}
	if len(out) == 0 {
		want := "text"
		if v.Encoding != "" {
			want = v.Encoding
		}
		return nil, &Refusal{Code: CodeSignatureMalformed, Reason: fmt.Sprintf("the header %s holds no signature of the form %q + %s", v.Signature.Header, v.Signature.Prefix, want)}
	}
	return out, nil
}

// stamp is a signed time, as written and as read.
type stamp struct {
	text string
	at   time.Time
}

func (v *variant) timestamp(req *Request) (stamp, *Refusal) {
	if v.Timestamp == nil {
		return stamp{}, nil
	}
	values, _ := v.Timestamp.values(func(name string) []string { return req.Header.Values(name) })
	if len(values) == 0 || values[0] == "" {
		return stamp{}, &Refusal{Code: CodeTimestampMissing, Reason: fmt.Sprintf("the header %s is missing", v.Timestamp.Header)}
	}
	micros, ok := expr.ParseMicros(values[0])
	if !ok {
		return stamp{}, &Refusal{Code: CodeTimestampMalformed, Reason: fmt.Sprintf("the header %s holds no time", v.Timestamp.Header)}
	}
	return stamp{values[0], time.UnixMicro(micros)}, nil
}

// fresh looks at the age of an authentic request.
func (v *variant) fresh(s stamp, now time.Time) *Refusal {
	if v.Timestamp == nil || v.Timestamp.Tolerance < 0 {
		return nil
	}
	switch age := now.Sub(s.at); {
	case age > v.Timestamp.Tolerance:
		return &Refusal{Code: CodeTimestampStale, Debt: true, Reason: fmt.Sprintf("the signature is right, but was made %s ago and %s are allowed: a replay, a delivery that was stuck, or a clock that is wrong", age.Round(time.Second), v.Timestamp.Tolerance)}
	case -age > v.Timestamp.Future:
		return &Refusal{Code: CodeTimestampFuture, Debt: true, Reason: fmt.Sprintf("the signature is right, but from %s in the future and %s are allowed: check the clocks", (-age).Round(time.Second), v.Timestamp.Future)}
	}
	return nil
}

// message builds what is signed. The body is taken byte for byte.
func (v *variant) message(req *Request, s stamp) []byte {
	if v.Message == "{body}" {
		return req.Body
	}
	out := make([]byte, 0, len(req.Body)+len(v.Message)+64)
	rest := v.Message
	for {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			return append(out, rest...)
		}
		end := strings.IndexByte(rest[open:], '}')
		if end < 0 {
			return append(out, rest...)
		}
		out = append(out, rest[:open]...)
		name := rest[open+1 : open+end]
		rest = rest[open+end+1:]
		switch {
		case name == "body":
			out = append(out, req.Body...)
		case name == "timestamp":
			out = append(out, s.text...)
		case name == "id":
			out = append(out, req.Header.Get(v.ID)...)
		case name == "method":
			out = append(out, req.Method...)
		case name == "url":
			out = append(out, req.URL...)
		case name == "length":
			out = strconv.AppendInt(out, int64(len(req.Body)), 10)
		case strings.HasPrefix(name, "header:"):
			out = append(out, req.Header.Get(strings.TrimPrefix(name, "header:"))...)
		}
	}
}
