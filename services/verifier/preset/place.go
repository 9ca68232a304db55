package preset

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // for digests of senders that have nothing better
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// simplePath is an expression that does nothing but name a field.
var simplePath = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

var (
	errNoPlace  = errors.New("the preset names it by more than a field, so that it has to stand in the payload already")
	errNoObject = errors.New("the payload is no JSON object that could hold it")
)

// withParameter sets a parameter in the query of a URL, and leaves the rest as it is written.
func withParameter(target, name, value string) string {
	base, query, _ := strings.Cut(target, "?")
	var parts []string
	for part := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(key); part != "" && (err != nil || plain != name) {
			parts = append(parts, part)
		}
	}
	return base + "?" + strings.Join(append(parts, url.QueryEscape(name)+"="+url.QueryEscape(value)), "&")
}

// withField sets a field of a JSON body to a text or a number; where a text stands, a number becomes one.
func withField(body []byte, path string, value any) ([]byte, error) {
	object, err := objectIn(body)
	if err != nil {
		return nil, err
	}
	if err := set(object, path, value); err != nil {
		return nil, err
	}
	return encode(object)
}

// eachIn sets a field of every item of a JSON body.
func eachIn(body []byte, items, path, value string) ([]byte, error) {
	object, err := objectIn(body)
	if err != nil {
		return nil, err
	}
	var list any = object
	if !simplePath.MatchString(items) {
		return nil, errNoPlace
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(items, "body."), ".") {
		in, _ := list.(map[string]any)
		list = in[name]
	}
	all, ok := list.([]any)
	if !ok {
		return nil, errors.New("the payload holds no list at " + items)
	}
	for _, item := range all {
		in, ok := item.(map[string]any)
		if !ok {
			return nil, errNoObject
		}
		if err := set(in, path, value); err != nil {
			return nil, err
		}
	}
	return encode(object)
}

func objectIn(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // ids may be larger than float64 is exact
	var object map[string]any
	if err := dec.Decode(&object); err != nil || object == nil || dec.More() {
		return nil, errNoObject
	}
	return object, nil
}

func encode(object map[string]any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(object)
	return bytes.TrimSpace(out.Bytes()), err
}

func set(object map[string]any, path string, value any) error {
	if !simplePath.MatchString(path) {
		return errNoPlace
	}
	names := strings.Split(strings.TrimPrefix(path, "body."), ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := object[name].(map[string]any)
		if !ok {
			if object[name] != nil {
				return errNoObject
			}
			inner = map[string]any{}
			object[name] = inner
		}
		object = inner
	}
	last := names[len(names)-1]
	if number, ok := value.(json.Number); ok {
		if _, text := object[last].(string); text {
			value = number.String()
		}
	}
	object[last] = value
	return nil
}

// digestOf hashes a body.
func digestOf(algorithm string, body []byte) []byte {
	switch algorithm {
	case "sha1":
		sum := sha1.Sum(body) //nolint:gosec // see above
		return sum[:]
	case "sha512":
		sum := sha512.Sum512(body)
		return sum[:]
	}
	sum := sha256.Sum256(body)
	return sum[:]
}
