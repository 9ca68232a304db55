package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader compares the nodes of a file with the types that they are decoded into. What does not fit is reported with its line and
// taken out, so that the rest can be decoded and everything that is wrong is told at once.
type reader struct {
	checker
	// getenv finds variables; nil: values are taken as they stand.
	getenv func(string) (string, bool)
}

// read goes through a node: it fills in variables, notes lines, and reports unknown keys and values of a wrong kind. Values are
// never repeated in a message, because any of them may be a secret in the wrong place.
func (r *reader) read(n *yaml.Node, t reflect.Type, path string) {
	r.lines[path] = n.Line
	if n.Kind == yaml.AliasNode {
		*n = copied(n.Alias)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
	case leaf(t):
		r.scalar(n, t, path)
	case t.Kind() == reflect.Slice:
		r.list(n, t, path)
	default:
		r.mapping(n, t, path)
	}
}

// leaf says whether a value of a type stands in one scalar.
func leaf(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.Unmarshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	return t.Kind() != reflect.Struct && t.Kind() != reflect.Slice && t.Kind() != reflect.Map
}

func (r *reader) list(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.SequenceNode {
		r.drop(n, path, "wants a list")
		return
	}
	for i, child := range n.Content {
		r.read(child, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (r *reader) mapping(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.MappingNode {
		r.drop(n, path, "wants keys with values")
		return
	}
	fields := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		addFields(fields, t)
	}
	kept, seen := n.Content[:0], map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		ft, ok := fields[key.Value]
		if t.Kind() == reflect.Map {
			ft, ok = t.Elem(), true
		}
		switch {
		case !ok:
			r.problems = append(r.problems, Problem{key.Line, fmt.Sprintf("unknown key %q; known are %s", key.Value, strings.Join(sortedKeys(fields), ", "))})
			continue
		case seen[key.Value]:
			r.problems = append(r.problems, Problem{key.Line, fmt.Sprintf("the key %q stands there twice", key.Value)})
			continue
		}
		seen[key.Value] = true
		r.read(value, ft, strings.TrimPrefix(path+"."+key.Value, "."))
		kept = append(kept, key, value)
	}
	n.Content = kept
}

// addFields notes the keys of a struct, with those of structs that are inlined.
func addFields(fields map[string]reflect.Type, t reflect.Type) {
	for i := range t.NumField() {
		name, option, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if option == "inline" {
			addFields(fields, t.Field(i).Type)
			continue
		}
		if name != "" && name != "-" {
			fields[name] = t.Field(i).Type
		}
	}
}

func (r *reader) scalar(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind == yaml.ScalarNode && !r.expand(n, path) {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Decode(reflect.New(t).Interface()) == nil {
		return
	}
	r.drop(n, path, wants(t))
}

// wants says what a value has to look like.
func wants(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "wants a duration such as 500ms, 30s or 48h"
	case t == reflect.TypeFor[time.Time]():
		return "wants a time such as 2026-12-01T00:00:00Z"
	case t.Kind() == reflect.Bool:
		return "wants true or false"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return "wants a whole number"
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return "wants a number"
	case t.Kind() == reflect.String:
		return "wants a text"
	}
	return "has a value that cannot be read"
}

// drop reports a node and takes its value out.
func (r *reader) drop(n *yaml.Node, path, message string) {
	r.report(path, "%s", message)
	*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
}

// copied is a deep copy of what an alias stands for, so that each place has its own problems.
func copied(n *yaml.Node) yaml.Node {
	out := *n
	out.Anchor = ""
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c := copied(child)
		out.Content[i] = &c
	}
	return out
}

var variable = regexp.MustCompile(`\$(\$|\{[^}]*\})`)

// expand replaces ${NAME} in a value; $$ stands for one $. It says whether the value is complete.
func (r *reader) expand(n *yaml.Node, path string) bool {
	if r.getenv == nil || !strings.Contains(n.Value, "$") {
		return true
	}
	before, complete := n.Value, true
	n.Value = variable.ReplaceAllStringFunc(n.Value, func(m string) string {
		if m == "$$" {
			return "$"
		}
		name := m[2 : len(m)-1]
		value, ok := r.getenv(name)
		if !ok {
			complete = false
			r.problems = append(r.problems, Problem{n.Line, fmt.Sprintf("%s: the environment variable %s is not set", path, name)})
		}
		return value
	})
	if !complete {
		r.bad[path] = true
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
		return false
	}
	if n.Value != before && n.Style == 0 {
		n.Tag = "" // what was put in decides the type: a port may come from a variable
	}
	return true
}

func sortedKeys(m map[string]reflect.Type) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
