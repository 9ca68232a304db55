package expr

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// direct evaluates an expression without CEL. It does what CEL would do.
type direct func(in *Input) value

// directly compiles an expression, or returns nil if something in it needs CEL.
func directly(e ast.Expr) direct {
	switch e.Kind() {
	case ast.LiteralKind:
		v := fromRef(e.AsLiteral())
		return func(*Input) value { return v }
	case ast.IdentKind:
		return ident(e.AsIdent())
	case ast.SelectKind:
		return selection(e.AsSelect())
	case ast.CallKind:
		return call(e.AsCall())
	}
	return nil
}

// ident resolves a name in the order of Input.ResolveName.
func ident(name string) direct {
	var own direct
	switch name {
	case "body":
		own = func(in *Input) value { return fromNative(in.Body) }
	case "item":
		own = func(in *Input) value {
			if in.Item == nil {
				return value{}
			}
			return fromNative(in.Item)
		}
	case "headers":
		own = func(in *Input) value { return value{kind: fields, fields: in.Headers} }
	case "query":
		own = func(in *Input) value { return value{kind: fields, fields: in.Query} }
	}
	return func(in *Input) value {
		if own != nil {
			if in.Document {
				if v := topLevel(in, name); v.kind != absent {
					return v
				}
			}
			return own(in)
		}
		if v := topLevel(in, name); v.kind != absent {
			return v
		}
		switch name {
		case "method":
			return text(in.Method)
		case "url":
			return text(in.URL)
		}
		if s, ok := in.Vars[name]; ok {
			return text(s)
		}
		return value{}
	}
}

// topLevel is a field of the body.
func topLevel(in *Input, name string) value {
	switch b := in.Body.(type) {
	case *jsonvalue.Doc:
		return fromJSON(b.Root().Field(name))
	case map[string]any:
		if v, ok := b[name]; ok {
			return fromNative(v)
		}
	}
	return value{}
}

func selection(s ast.SelectExpr) direct {
	operand := directly(s.Operand())
	if operand == nil {
		return nil
	}
	field := s.FieldName()
	if !s.IsTestOnly() {
		return func(in *Input) value {
			v := operand(in)
			return v.member(field)
		}
	}
	return func(in *Input) value {
		v := operand(in)
		if v.kind == absent || v.isList() {
			return value{}
		}
		found := v.member(field)
		return truth(found.kind != absent)
	}
}

func call(c ast.CallExpr) direct {
	var args []direct
	name := c.FunctionName()
	if name == operators.Index && c.Args()[0].Kind() == ast.MapKind {
		return table(c.Args()[0].AsMap(), directly(c.Args()[1]))
	}
	if name == operators.In && c.Args()[1].Kind() == ast.ListKind {
		return oneOf(directly(c.Args()[0]), c.Args()[1].AsList())
	}
	if c.IsMemberFunction() {
		args = append(args, directly(c.Target()))
	}
	for _, a := range c.Args() {
		args = append(args, directly(a))
	}
	for _, a := range args {
		if a == nil {
			return nil
		}
	}
	switch {
	case len(args) == 1 && !c.IsMemberFunction():
		return unary(name, args[0])
	case len(args) == 2 && c.IsMemberFunction():
		return method(name, args[0], args[1])
	case len(args) == 2:
		return binary(name, args[0], args[1])
	case len(args) == 3 && name == operators.Conditional:
		return func(in *Input) value {
			switch cond := args[0](in); {
			case cond.kind != boolean:
				return value{}
			case cond.n != 0:
				return args[1](in)
			}
			return args[2](in)
		}
	}
	return nil
}

func unary(name string, a direct) direct {
	switch name {
	case operators.LogicalNot:
		return func(in *Input) value {
			v := a(in)
			if v.kind != boolean {
				return value{}
			}
			return truth(v.n == 0)
		}
	case "string":
		return func(in *Input) value {
			switch v := a(in); v.kind {
			case str:
				return v
			case integer, boolean:
				return text(v.text())
			case absent, null:
				return value{}
			default:
				return fromRef(v.ref().ConvertToType(types.StringType))
			}
		}
	case "unixMicros":
		return func(in *Input) value {
			v := a(in)
			if n, ok := v.micros(); ok {
				return whole(n)
			}
			return value{}
		}
	case "size":
		return func(in *Input) value {
			switch v := a(in); v.kind {
			case node:
				return whole(int64(v.node.Len()))
			case absent:
				return v
			default:
				if sizer, ok := v.ref().(traits.Sizer); ok {
					return fromRef(sizer.Size())
				}
			}
			return value{}
		}
	}
	return nil
}

func method(name string, a, b direct) direct {
	var test func(s, part string) bool
	switch name {
	case "startsWith":
		test = strings.HasPrefix
	case "endsWith":
		test = strings.HasSuffix
	case "contains":
		test = strings.Contains
	default:
		return nil
	}
	return func(in *Input) value {
		s, part := a(in), b(in)
		if s.kind != str || part.kind != str {
			return value{}
		}
		return truth(test(s.s, part.s))
	}
}

func binary(name string, a, b direct) direct {
	switch name {
	case operators.Equals:
		return func(in *Input) value {
			x, y := a(in), b(in)
			return x.equal(&y)
		}
	case operators.NotEquals:
		return func(in *Input) value {
			x, y := a(in), b(in)
			if v := x.equal(&y); v.kind == boolean {
				return truth(v.n == 0)
			}
			return value{}
		}
	case operators.LogicalAnd:
		return junction(a, b, 0)
	case operators.LogicalOr:
		return junction(a, b, 1)
	case operators.Add:
		return sum(a, b)
	case operators.Greater, operators.Less, operators.GreaterEquals, operators.LessEquals:
		return comparison(name, a, b)
	case operators.In:
		return func(in *Input) value {
			key, m := a(in), b(in)
			if key.kind != str || !m.isMap() {
				return contained(&key, &m)
			}
			found := m.member(key.s)
			return truth(found.kind != absent)
		}
	case operators.Index:
		return index(a, b)
	}
	return nil
}

// contained is `in` for everything but keys of maps.
func contained(v, in *value) value {
	if c, ok := in.ref().(traits.Container); ok && v.kind != absent {
		return fromRef(c.Contains(v.ref()))
	}
	return value{}
}

// junction is && (decided by false) or || (decided by true): what the other side yields, even an error, does not count then.
func junction(a, b direct, decides int64) direct {
	return func(in *Input) value {
		x := a(in)
		if x.kind == boolean && x.n == decides {
			return x
		}
		y := b(in)
		if y.kind == boolean && (y.n == decides || x.kind == boolean) {
			return y
		}
		return value{}
	}
}

func sum(a, b direct) direct {
	return func(in *Input) value {
		x, y := a(in), b(in)
		switch {
		case x.kind == absent || y.kind == absent:
			return value{}
		case x.kind == str && y.kind == str:
			return text(x.s + y.s)
		}
		if adder, ok := x.ref().(traits.Adder); ok {
			return fromRef(adder.Add(y.ref()))
		}
		return value{}
	}
}

func comparison(name string, a, b direct) direct {
	return func(in *Input) value {
		x, y := a(in), b(in)
		if x.kind == absent || y.kind == absent {
			return value{}
		}
		comparer, ok := x.ref().(traits.Comparer)
		if !ok {
			return value{}
		}
		order, ok := comparer.Compare(y.ref()).(types.Int)
		if !ok {
			return value{}
		}
		switch name {
		case operators.Greater:
			return truth(order > 0)
		case operators.Less:
			return truth(order < 0)
		case operators.GreaterEquals:
			return truth(order >= 0)
		}
		return truth(order <= 0)
	}
}

func index(a, b direct) direct {
	return func(in *Input) value {
		v, key := a(in), b(in)
		switch {
		case v.kind == absent || key.kind == absent:
			return value{}
		case key.kind == str && v.isMap():
			return v.member(key.s)
		case key.kind == integer && v.kind == node && v.node.Kind() == jsonvalue.List:
			return fromJSON(v.node.Index(int(key.n)))
		case v.kind == other:
			if indexer, ok := v.val.(traits.Indexer); ok {
				return fromRef(indexer.Get(key.ref()))
			}
		}
		return value{}
	}
}

// table is a map of literal keys that is indexed at once: {"page_removed": "deleted"}[event].
func table(m ast.MapExpr, key direct) direct {
	if key == nil {
		return nil
	}
	entries := make(map[string]direct, len(m.Entries()))
	for _, e := range m.Entries() {
		entry := e.AsMapEntry()
		if entry.Key().Kind() != ast.LiteralKind || entry.IsOptional() {
			return nil
		}
		k, ok := entry.Key().AsLiteral().(types.String)
		d := directly(entry.Value())
		if !ok || d == nil || entries[string(k)] != nil || entry.Value().Kind() != ast.LiteralKind {
			return nil
		}
		entries[string(k)] = d
	}
	return func(in *Input) value {
		k := key(in)
		if d := entries[k.s]; k.kind == str && d != nil {
			return d(in)
		}
		return value{}
	}
}

// oneOf is `x in ["a", "b"]`.
func oneOf(a direct, list ast.ListExpr) direct {
	if a == nil {
		return nil
	}
	set := make(map[string]bool, len(list.Elements()))
	for _, e := range list.Elements() {
		if e.Kind() != ast.LiteralKind {
			return nil
		}
		s, ok := e.AsLiteral().(types.String)
		if !ok {
			return nil
		}
		set[string(s)] = true
	}
	return func(in *Input) value {
		switch v := a(in); v.kind {
		case absent:
			return v
		case str:
			return truth(set[v.s])
		}
		return truth(false)
	}
}
