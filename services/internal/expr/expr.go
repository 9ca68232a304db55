// Package expr evaluates the expressions of presets and configuration files: CEL (https://cel.dev) over a JSON document and
// the request that carried it. What is missing is absent, not an error, because payloads differ from event to event.
//
// Most expressions are paths, comparisons and tables. They are compiled to direct look-ups in the document (direct.go), which
// allocate nothing; everything else is evaluated by cel-go over a tree. A test holds the two against each other.
package expr

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Expr is a compiled chain of expressions: the first that is not absent counts. The zero value is always absent.
type Expr struct {
	links []link
}

// link is one expression of a chain.
type link struct {
	source string
	// direct evaluates it without CEL; nil: it cannot be.
	direct direct
	// program evaluates it; nil if direct does.
	program cel.Program
}

// environment is shared: it is expensive to make and never changes.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.CustomTypeAdapter(adapter{}), ext.Strings(), ext.Lists(), ext.Encoders(),
		cel.Function("unixMicros", cel.Overload("unix_micros_dyn", []*cel.Type{cel.DynType}, cel.IntType, cel.UnaryBinding(unixMicros))),
		cel.Function("parseJson", cel.Overload("parse_json_string", []*cel.Type{cel.StringType}, cel.DynType, cel.UnaryBinding(parseJSON))),
		cel.ParserRecursionLimit(64), cel.ParserExpressionSizeLimit(8192),
	)
})

// Compile compiles a chain. Empty expressions are left out.
func Compile(sources ...string) (Expr, error) { return compile(sources, false) }

// compile compiles a chain; always by CEL if a test wants to compare.
func compile(sources []string, onlyCEL bool) (Expr, error) {
	env, err := environment()
	if err != nil {
		return Expr{}, fmt.Errorf("set up CEL: %w", err)
	}
	var e Expr
	for _, src := range sources {
		if strings.TrimSpace(src) == "" {
			continue
		}
		ast, issues := env.Parse(src)
		if issues.Err() != nil {
			return Expr{}, fmt.Errorf("expression %q: %w", src, issues.Err())
		}
		if d := directly(ast.NativeRep().Expr()); d != nil && !onlyCEL {
			e.links = append(e.links, link{source: src, direct: d})
			continue
		}
		program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			return Expr{}, fmt.Errorf("expression %q: %w", src, err)
		}
		e.links = append(e.links, link{source: src, program: program})
	}
	return e, nil
}

// Defined says whether there is anything to evaluate.
func (e Expr) Defined() bool { return len(e.links) > 0 }

func (l *link) eval(in *Input) value {
	if l.direct != nil {
		return l.direct(in)
	}
	v, _, err := l.program.Eval(in)
	if err != nil || v == nil {
		return value{}
	}
	return fromRef(v)
}

// eval returns the first value of the chain that is neither absent nor null.
func (e Expr) eval(in *Input) value {
	for i := range e.links {
		if v := e.links[i].eval(in); v.kind != absent && v.kind != null {
			return v
		}
	}
	return value{}
}

// String returns a value as text: strings as they are, whole numbers digit by digit. Lists and objects are no text. An empty
// string counts as absent.
func (e Expr) String(in *Input) (string, bool) {
	for i := range e.links {
		v := e.links[i].eval(in)
		if s := v.text(); s != "" {
			return s, true
		}
	}
	return "", false
}

// Text returns a value as text like String, but an empty string is there: an empty page is a page.
func (e Expr) Text(in *Input) (string, bool) {
	if s, ok := e.String(in); ok {
		return s, true
	}
	return "", e.eval(in).kind == str
}

// Bool returns a truth value; absent is false.
func (e Expr) Bool(in *Input) bool {
	v := e.eval(in)
	return v.kind == boolean && v.n != 0
}

// wholeFloats is up to where a float tells whole numbers apart.
const wholeFloats = 1 << 53

// Int returns a whole number, also one that is written as a string, or as 7.0 or 7e2. Fractions and numbers beyond 64 bits are
// absent, and so is what a float cannot tell from its neighbour.
func (e Expr) Int(in *Input) (int64, bool) {
	switch v := e.eval(in); v.kind {
	case integer:
		return v.n, true
	case double:
		f := v.float()
		return int64(f), math.Trunc(f) == f && math.Abs(f) < wholeFloats
	case str:
		n, err := strconv.ParseInt(v.s, 10, 64)
		return n, err == nil
	}
	return 0, false
}

// Time returns a time: RFC 3339, or Unix time in seconds, with a fraction, in milliseconds or in microseconds.
func (e Expr) Time(in *Input) (time.Time, bool) {
	v := e.eval(in)
	micros, ok := v.micros()
	if !ok {
		return time.Time{}, false
	}
	return time.UnixMicro(micros).UTC(), true
}

// List returns the elements of a list, as items for further expressions.
func (e Expr) List(in *Input) ([]any, bool) {
	v := e.eval(in)
	if v.kind == node && v.node.Kind() == jsonvalue.List {
		items := make([]any, 0, v.node.Len())
		for item := range v.node.Elements() {
			items = append(items, item)
		}
		return items, true
	}
	list, ok := v.ref().(traits.Lister)
	if !ok {
		return nil, false
	}
	var items []any
	for it := list.Iterator(); it.HasNext() == types.True; {
		items = append(items, it.Next())
	}
	return items, true
}

// Native returns what an item of List is as a JSON tree, so that it can be the Body of another Input.
func Native(item any) any {
	switch v := item.(type) {
	case jsonvalue.Value:
		return v.Tree()
	case ref.Val:
		return tree(v)
	}
	return item
}

// tree is a CEL value as a JSON tree.
func tree(v ref.Val) any {
	switch v := v.(type) {
	case types.Null:
		return nil
	case types.Bool:
		return bool(v)
	case types.String:
		return string(v)
	case types.Int, types.Uint, types.Double:
		n := fromRef(v)
		return jsonvalue.Number(n.text())
	case traits.Mapper:
		if native, ok := v.Value().(map[string]any); ok {
			return native
		}
		object := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			k := fromRef(key)
			object[k.text()] = tree(v.Get(key))
		}
		return object
	case traits.Lister:
		list := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			list = append(list, tree(it.Next()))
		}
		return list
	}
	return nil
}

// parseJSON is the CEL function parseJson: what JSON in a string says.
func parseJSON(v ref.Val) ref.Val {
	s, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	parsed, err := jsonvalue.Decode([]byte(s))
	if err != nil {
		return types.NewErr("not JSON")
	}
	return adapter{}.NativeToValue(parsed)
}

// Value returns a value as a JSON tree; ok is false if it is absent or null.
func (e Expr) Value(in *Input) (any, bool) {
	v := e.eval(in)
	if v.kind == absent || v.kind == null {
		return nil, false
	}
	return Native(v.ref()), true
}
