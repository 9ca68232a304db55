// Package jsonvalue reads JSON strictly and without losing a digit: ids beyond 2^53 stay what they are, and what two
// parsers could read differently (duplicate keys, invalid UTF-8) is refused.
package jsonvalue

import (
	"errors"
	"fmt"
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
	d, err := Parse(data)
	if err != nil {
		return nil, err
	}
	defer d.Free()
	return d.Root().Tree(), nil
}
