package expr

import (
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Fields are named texts of a request: its headers, its query.
type Fields interface {
	// Get returns the first value of a name.
	Get(name string) (string, bool)
	// All returns all of them by name.
	All() map[string]string
}

// FieldMap is Fields in a map.
type FieldMap map[string]string

// Get implements Fields.
func (m FieldMap) Get(name string) (string, bool) {
	v, ok := m[name]
	return v, ok
}

// All implements Fields.
func (m FieldMap) All() map[string]string { return m }

// Input is what expressions see: body, item, headers (by lower-case name) and query. Any other name is a top-level field of
// the body: issue.body is short for body.issue.body. What is no field of it may still be method, url or another of Vars.
// It serves one goroutine at a time.
type Input struct {
	// Document: the body is a document and there is no request, so that its own fields body, url, … go before everything.
	Document bool

	// Body is a tree of jsonvalue.Decode or a *jsonvalue.Doc.
	Body any
	// Item is one of List, or nil.
	Item    any
	Headers Fields
	Query   Fields
	Method  string
	URL     string
	// Vars are further names, behind those of the body. May be nil.
	Vars map[string]string

	// tree is Body for CEL, made when it is asked for.
	tree    any
	treeFor any
}

// native is the body as a tree.
func (in *Input) native() any {
	doc, ok := in.Body.(*jsonvalue.Doc)
	if !ok {
		return in.Body
	}
	if in.treeFor != in.Body {
		in.tree, in.treeFor = doc.Root().Tree(), in.Body
	}
	return in.tree
}

// ResolveName implements CEL's Activation.
func (in *Input) ResolveName(name string) (any, bool) {
	if in.Document {
		if v, ok := in.field(name); ok {
			return v, true
		}
	}
	switch name {
	case "body":
		return in.native(), true
	case "item":
		if v, ok := in.Item.(jsonvalue.Value); ok {
			return v.Tree(), true
		}
		return in.Item, in.Item != nil
	case "headers":
		return all(in.Headers), true
	case "query":
		return all(in.Query), true
	}
	if v, ok := in.field(name); ok {
		return v, true
	}
	switch name {
	case "method":
		return in.Method, true
	case "url":
		return in.URL, true
	}
	v, ok := in.Vars[name]
	return v, ok
}

func all(f Fields) map[string]string {
	if f == nil {
		return map[string]string{}
	}
	return f.All()
}

// field is a top-level field of the body.
func (in *Input) field(name string) (any, bool) {
	if object, ok := in.native().(map[string]any); ok {
		v, ok := object[name]
		return v, ok
	}
	return nil, false
}

// Parent implements CEL's Activation.
func (*Input) Parent() interpreter.Activation { return nil }

// adapter shows JSON trees to CEL without converting them first.
type adapter struct{}

func (a adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case jsonvalue.Number:
		return number(string(v))
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	case map[string]string:
		return types.NewStringStringMap(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

// number keeps whole numbers whole: what does not fit 64 bits becomes text, because a float would alter an id.
func number(s string) ref.Val {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return types.Int(n)
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return types.Uint(n)
	}
	if !strings.ContainsAny(s, ".eE") {
		return types.String(s)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return types.String(s)
	}
	return types.Double(f)
}
