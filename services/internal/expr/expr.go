// Package expr evaluates the expressions of presets and configuration files: CEL (https://cel.dev) over a JSON document and
// the request that carried it. What is missing is absent, not an error, because payloads differ from event to event.
package expr

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Input is what expressions see: body, item, headers (by lower-case name) and query. Any other name is a top-level field of
// the body: issue.body is short for body.issue.body. What is no field of it may still be method or url, of the request.
type Input struct {
	// Document: the body is a document and there is no request, so that its own fields body, url, … go before everything.
	Document bool

	Body    any
	Item    any
	Headers map[string]string
	Query   map[string]string
	Method  string
	URL     string
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
		return in.Body, true
	case "item":
		return in.Item, in.Item != nil
	case "headers":
		return in.Headers, true
	case "query":
		return in.Query, true
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
	return nil, false
}

// field is a top-level field of the body.
func (in *Input) field(name string) (any, bool) {
	if object, ok := in.Body.(map[string]any); ok {
		v, ok := object[name]
		return v, ok
	}
	return nil, false
}

// Parent implements CEL's Activation.
func (*Input) Parent() interpreter.Activation { return nil }

// Expr is a compiled chain of expressions: the first that is not absent counts. The zero value is always absent.
type Expr struct {
	programs []cel.Program
	source   string
}

// environment is shared: it is expensive to make and never changes.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.CustomTypeAdapter(adapter{}), ext.Strings(), ext.Lists(), ext.Encoders(),
		cel.Function("unixMicros", cel.Overload("unix_micros_dyn", []*cel.Type{cel.DynType}, cel.IntType, cel.UnaryBinding(unixMicros))),
		cel.ParserRecursionLimit(64), cel.ParserExpressionSizeLimit(8192),
	)
})

// Compile compiles a chain. Empty expressions are left out.
func Compile(sources ...string) (Expr, error) {
	env, err := environment()
	if err != nil {
		return Expr{}, fmt.Errorf("set up CEL: %w", err)
	}
	e := Expr{source: strings.Join(sources, " | ")}
	for _, src := range sources {
		if strings.TrimSpace(src) == "" {
			continue
		}
		ast, issues := env.Parse(src)
		if issues.Err() != nil {
			return Expr{}, fmt.Errorf("expression %q: %w", src, issues.Err())
		}
		program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			return Expr{}, fmt.Errorf("expression %q: %w", src, err)
		}
		e.programs = append(e.programs, program)
	}
	return e, nil
}

// Defined says whether there is anything to evaluate.
func (e Expr) Defined() bool { return len(e.programs) > 0 }

// eval returns the first value of the chain that is neither absent nor null.
func (e Expr) eval(in *Input) ref.Val {
	for _, p := range e.programs {
		v, _, err := p.Eval(in)
		if err != nil || v == nil || v == types.NullValue || types.IsUnknownOrError(v) {
			continue
		}
		return v
	}
	return nil
}

// String returns a value as text: strings as they are, whole numbers digit by digit. Lists and objects are no text. An empty
// string counts as absent.
func (e Expr) String(in *Input) (string, bool) {
	for _, p := range e.programs {
		v, _, err := p.Eval(in)
		if err != nil {
			continue
		}
		if s := text(v); s != "" {
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
	s, ok := e.eval(in).(types.String)
	return string(s), ok
}

func text(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return string(v)
	case types.Int:
		return strconv.FormatInt(int64(v), 10)
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10)
	case types.Double:
		return strconv.FormatFloat(float64(v), 'f', -1, 64)
	case types.Bool:
		return strconv.FormatBool(bool(v))
	}
	return ""
}

// Bool returns a truth value; absent is false.
func (e Expr) Bool(in *Input) bool {
	b, ok := e.eval(in).(types.Bool)
	return ok && bool(b)
}

// Int returns a whole number, also one that is written as a string. Fractions and numbers beyond 64 bits are absent.
func (e Expr) Int(in *Input) (int64, bool) {
	switch v := e.eval(in).(type) {
	case types.Int:
		return int64(v), true
	case types.String:
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// Time returns a time: RFC 3339, or Unix time in seconds, with a fraction, in milliseconds or in microseconds.
func (e Expr) Time(in *Input) (time.Time, bool) {
	v := e.eval(in)
	if v == nil {
		return time.Time{}, false
	}
	micros, ok := toMicros(v)
	if !ok {
		return time.Time{}, false
	}
	return time.UnixMicro(micros).UTC(), true
}

// List returns the elements of a list, as items for further expressions.
func (e Expr) List(in *Input) ([]any, bool) {
	list, ok := e.eval(in).(traits.Lister)
	if !ok {
		return nil, false
	}
	var items []any
	for it := list.Iterator(); it.HasNext() == types.True; {
		items = append(items, it.Next())
	}
	return items, true
}

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

// Native returns what an item of List is in the JSON tree, so that it can be the Body of another Input.
func Native(item any) any {
	if v, ok := item.(ref.Val); ok {
		return v.Value()
	}
	return item
}
