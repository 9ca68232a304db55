// Package jsonvalue reads JSON strictly and without losing a digit: ids beyond 2^53 stay what they are, and what two
// parsers could read differently (duplicate keys, invalid UTF-8) is refused.
package jsonvalue

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth bounds how deep arrays and objects may be nested.
const MaxDepth = 128

// Number is a JSON number, exactly as written.
type Number string

// Kinds of refusals.
var (
	// ErrSyntax: not JSON.
	ErrSyntax = errors.New("not valid JSON")
	// ErrDuplicateKey: an object names a key twice.
	ErrDuplicateKey = errors.New("an object has the same key twice")
	// ErrInvalidUTF8: a string is not UTF-8.
	ErrInvalidUTF8 = errors.New("a string is not valid UTF-8")
	// ErrTooDeep: nested deeper than MaxDepth.
	ErrTooDeep = fmt.Errorf("nested deeper than %d levels", MaxDepth)
)

// Decode reads one JSON value: nil, bool, string, Number, []any or map[string]any. Errors wrap one of the above.
func Decode(data []byte) (any, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	v, err := value(dec, 0)
	if err != nil {
		return nil, classify(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the value", ErrSyntax)
	}
	return v, nil
}

func classify(err error) error {
	switch {
	case errors.Is(err, ErrTooDeep):
		return err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return ErrDuplicateKey
	case bytes.Contains([]byte(err.Error()), []byte("invalid UTF-8")):
		return ErrInvalidUTF8
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		// The offset helps; the text around it could be anybody's data.
		return fmt.Errorf("%w: at byte %d", ErrSyntax, syntax.ByteOffset)
	}
	return ErrSyntax
}

func value(dec *jsontext.Decoder, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, ErrTooDeep
	}
	tok, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return tok.Bool(), nil
	case '"':
		return tok.String(), nil
	case '0':
		return Number(tok.String()), nil
	case '[':
		list := []any{}
		for dec.PeekKind() != ']' {
			v, err := value(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.ReadToken()
		return list, err
	case '{':
		object := map[string]any{}
		for dec.PeekKind() != '}' {
			key, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			name := key.String() // the token is only valid until the next read
			if object[name], err = value(dec, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := dec.ReadToken()
		return object, err
	}
	return nil, ErrSyntax
}

// Canonical writes a value in one way only: keys sorted, no spaces, numbers as they were written. Objects leave out the
// paths in without ("a.b" is key b of the object under key a; lists are looked through).
func Canonical(v any, without []string) []byte {
	drop := map[string]bool{}
	for _, p := range without {
		drop[p] = true
	}
	return appendCanonical(nil, v, "", drop)
}

// Hash is the SHA-256 of Canonical.
func Hash(v any, without []string) [32]byte { return sha256.Sum256(Canonical(v, without)) }

func appendCanonical(b []byte, v any, path string, drop map[string]bool) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case Number:
		return append(b, v...)
	case string:
		out, err := jsontext.AppendQuote(b, v)
		if err != nil {
			return strconv.AppendQuote(b, v)
		}
		return out
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendCanonical(b, e, path, drop)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		first := true
		for _, k := range slices.Sorted(maps.Keys(v)) {
			p := k
			if path != "" {
				p = path + "." + k
			}
			if drop[p] {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = appendCanonical(b, k, "", nil)
			b = append(b, ':')
			b = appendCanonical(b, v[k], p, drop)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}
