package preset

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"

	"github.com/hookmesh/hookmesh/services/internal/expr"
)

// maxSignatures bounds how many signatures of one request are tried.
const maxSignatures = 16

// field is a Field made ready.
type field struct {
	Field
	body expr.Expr
}

// place names a field for a person.
func (f *field) place() string {
	switch {
	case f.Header != "" && len(f.Also) > 0:
		return "the headers " + f.Header + " and " + strings.Join(f.Also, ", ")
	case f.Header != "":
		return "the header " + f.Header
	case f.Query != "":
		return "the query parameter " + f.Query
	}
	return "the body's field " + f.Body
}

// values appends what stands in the field, with prefixes cut off. raw counts values before the prefix was looked at.
func (f *field) values(r *Request, out []string) (found []string, raw int) {
	switch {
	case f.Header != "":
		out, raw = f.headers(r, f.Header, out)
		for _, name := range f.Also {
			var more int
			out, more = f.headers(r, name, out)
			raw += more
		}
	case f.Query != "":
		for _, v := range r.Values()[f.Query] {
			var more int
			out, more = f.split(v, out)
			raw += more
		}
	default:
		if r.decode() == nil {
			if v, ok := f.body.String(&r.in); ok {
				out, raw = f.split(v, out)
			}
		}
	}
	return out, raw
}

func (f *field) headers(r *Request, name string, out []string) (found []string, raw int) {
	for _, h := range r.Headers {
		if len(h.GetName()) == len(name) && strings.EqualFold(h.GetName(), name) {
			var more int
			out, more = f.split(text(h.GetValue()), out)
			raw += more
		}
	}
	return out, raw
}

// split appends the parts of one value that have the prefix.
func (f *field) split(value string, out []string) (found []string, raw int) {
	for more := true; more; {
		part := value
		more = false
		if f.Separator != "" {
			part, value, more = strings.Cut(value, f.Separator)
		}
		raw++
		if part, ok := strings.CutPrefix(strings.TrimSpace(part), f.Prefix); ok && len(out) < maxSignatures {
			out = append(out, part)
		}
	}
	return out, raw
}

var errNoSignature = errors.New("not a signature")

// decodeSignature appends the bytes of a signature.
func decodeSignature(out []byte, encoding, s string) ([]byte, error) {
	if s == "" {
		return out, errNoSignature
	}
	switch encoding {
	case "hex":
		n := len(out)
		out = append(out, s...)
		if _, err := hex.Decode(out[n:], out[n:]); err != nil {
			return out[:n], errNoSignature
		}
		return out[:n+len(s)/2], nil
	case "base64":
		return appendBase64(out, s)
	case "p1363-base64":
		raw, err := appendBase64(nil, s)
		if err != nil || len(raw) == 0 || len(raw)%2 != 0 {
			return out, errNoSignature
		}
		half := len(raw) / 2
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
		return append(out, der...), err
	}
	return append(out, s...), nil
}
