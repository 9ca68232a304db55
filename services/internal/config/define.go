package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Redacted stands where a secret or credential would be.
const Redacted = "[redacted]"

// Definition is a source's keys as a tree, as JSON and YAML know it, without name and secrets.
type Definition map[string]any

// String hides the credentials from every log and error.
func (d Definition) String() string { return fmt.Sprint(map[string]any(d.Redact())) }

// GoString hides the credentials from %#v.
func (d Definition) GoString() string { return d.String() }

// ParseDefinition reads and validates the definition of a source that does not stand in a file. It reports everything that is
// wrong at once, under the paths of the values, and repeats no value that may be a secret. ${VARIABLES} are taken as they stand:
// whoever may define a source may not read the environment of the process.
func ParseDefinition(name string, d Definition) (Source, error) {
	for _, key := range []string{"name", "secrets"} {
		if _, ok := d[key]; ok {
			return Source{}, &Error{File: "the definition", Problems: []Problem{{Message: key + ": does not belong into the definition; it is given beside it"}}}
		}
	}
	if path := d.unfilled(); path != "" {
		return Source{}, &Error{File: "the definition", Problems: []Problem{{Message: path + ": is redacted and there is nothing to take its place: say the value"}}}
	}
	return ParseShown(name, d)
}

// ParseShown is ParseDefinition for a definition as Redact shows it, for those who need no credentials.
func ParseShown(name string, d Definition) (Source, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return Source{}, fmt.Errorf("encode the definition of source %s: %w", name, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return Source{}, &Error{File: "the definition", Problems: []Problem{{Message: "it cannot be read as YAML"}}}
	}
	r := reader{checker: checker{lines: map[string]int{}, bad: map[string]bool{}}}
	src := Source{}
	if len(root.Content) > 0 {
		r.read(root.Content[0], reflect.TypeFor[Source](), "")
		if err := root.Content[0].Decode(&src); err != nil {
			r.problems = append(r.problems, yamlProblems(err)...)
		}
	}
	src.Name = name
	src.complete()
	unsaid := src.Retry.Tries == 0
	src.Retry.complete(Default().Embedder.Tries)
	r.source("", &src, map[string]bool{})
	if unsaid {
		src.Retry.Tries = 0 // embedder.tries of the process that works on its documents decides
	}
	if len(r.problems) == 0 {
		return src, nil
	}
	for i := range r.problems {
		r.problems[i].Line = 0 // there is no file to look it up in
		r.problems[i].Message = strings.TrimPrefix(r.problems[i].Message, ".")
	}
	return Source{}, &Error{File: "the definition", Problems: r.problems}
}

// Define is the definition of a source that stands in the configuration file. Defaults are written out.
func Define(src Source) (Definition, error) {
	src.Name, src.Secrets = "", nil
	raw, err := yaml.Marshal(src)
	if err != nil {
		return nil, fmt.Errorf("encode source: %w", err)
	}
	var d map[string]any // not Definition: the library would take its type for the maps inside, too
	if err := yaml.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("encode source: %w", err)
	}
	delete(d, "name")
	delete(d, "secrets")
	prune(d)
	return d, nil
}

// prune takes out what says nothing.
func prune(d map[string]any) {
	for key, value := range d {
		if sub, ok := value.(map[string]any); ok {
			prune(sub)
		}
		if v := reflect.ValueOf(value); !v.IsValid() || v.IsZero() || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0 {
			delete(d, key)
		}
	}
}

// confidential are the parts of a definition whose every value is a credential.
var confidential = [][]string{{"content", "headers"}, {"connector", "credentials"}}

// Redact is a copy of the definition without its credentials: values of headers and credentials, and what a URL carries of them.
func (d Definition) Redact() Definition {
	out, _ := redact(map[string]any(d), nil).(map[string]any)
	return out
}

func redact(v any, path []string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = redact(value, append(path[:len(path):len(path)], key))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = redact(value, path)
		}
		return out
	case string:
		for _, part := range confidential {
			if len(path) >= len(part) && slices.Equal(path[:len(part)], part) {
				return Redacted
			}
		}
		return redactURL(v)
	}
	for _, part := range confidential {
		if len(path) >= len(part) && slices.Equal(path[:len(part)], part) {
			return Redacted
		}
	}
	return v
}

// secretive are parts of the names of query parameters that carry credentials.
var secretive = []string{"key", "token", "secret", "password", "passwd", "auth", "sig", "credential"}

// redactURL hides the password and the credentials in the query of a URL; everything else stays as it is written.
func redactURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return s
	}
	host, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, tail = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = url.PathEscape(Redacted) + host[i:] // so that it is still a URL
	}
	path, query, ok := strings.Cut(tail, "?")
	if !ok {
		return scheme + "://" + host + tail
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err != nil || slices.ContainsFunc(secretive, func(s string) bool { return strings.Contains(strings.ToLower(plain), s) }) {
			parts[i] = name + "=" + Redacted
		}
	}
	return scheme + "://" + host + path + "?" + strings.Join(parts, "&")
}

// Keep returns the definition with every value that reads as old's would be shown put back to what old holds, so that a definition
// that was read, edited and sent back keeps its credentials.
func (d Definition) Keep(old Definition) Definition {
	out, _ := keep(map[string]any(d), map[string]any(old), map[string]any(old.Redact())).(map[string]any)
	return out
}

func keep(now, old, shown any) any {
	switch now := now.(type) {
	case map[string]any:
		o, _ := old.(map[string]any)
		s, _ := shown.(map[string]any)
		out := make(map[string]any, len(now))
		for key, value := range now {
			out[key] = keep(value, o[key], s[key])
		}
		return out
	case string:
		if s, ok := shown.(string); ok && s == now {
			return old
		}
	}
	return now
}

// unfilled is the path of a value that reads [redacted]: it was shown by another source, or by an older definition. Empty: none.
func (d Definition) unfilled() string { return unfilled(map[string]any(d), "") }

func unfilled(v any, path string) string {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if p := unfilled(value, strings.TrimPrefix(path+"."+key, ".")); p != "" {
				return p
			}
		}
	case []any:
		for i, value := range v {
			if p := unfilled(value, fmt.Sprintf("%s[%d]", path, i)); p != "" {
				return p
			}
		}
	case string:
		if strings.Contains(v, Redacted) || strings.Contains(v, url.PathEscape(Redacted)) {
			return path
		}
	}
	return ""
}
