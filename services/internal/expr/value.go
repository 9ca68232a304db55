package expr

import (
	"math"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// kind is what a value is.
type kind uint8

const (
	absent kind = iota
	null
	boolean
	integer
	double
	str
	node   // a list or an object of a document
	fields // headers or query
	other  // whatever else CEL knows
)

// value is what an expression yields, without being an object on the heap.
type value struct {
	kind   kind
	n      int64 // integer; boolean: not 0; double: its bits
	s      string
	node   jsonvalue.Value
	fields Fields
	val    ref.Val
}

func text(s string) value { return value{kind: str, s: s} }
func truth(b bool) value {
	if b {
		return value{kind: boolean, n: 1}
	}
	return value{kind: boolean}
}
func whole(n int64) value { return value{kind: integer, n: n} }

// fromJSON is a place in a document as a value.
func fromJSON(v jsonvalue.Value) value {
	switch v.Kind() {
	case jsonvalue.Null:
		return value{kind: null}
	case jsonvalue.True:
		return value{kind: boolean, n: 1}
	case jsonvalue.False:
		return value{kind: boolean}
	case jsonvalue.Str:
		return text(v.Text())
	case jsonvalue.Num:
		return fromNumber(v.Raw())
	case jsonvalue.List, jsonvalue.Object:
		return value{kind: node, node: v}
	}
	return value{}
}

func fromNumber(raw string) value {
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
		if raw[0] == '-' && n == 0 {
			return whole(0)
		}
		return value{kind: integer, n: n, s: raw}
	}
	return fromRef(number(raw))
}

// fromNative is a part of a tree as a value.
func fromNative(v any) value {
	switch v := v.(type) {
	case nil:
		return value{kind: null}
	case jsonvalue.Value:
		return fromJSON(v)
	case *jsonvalue.Doc:
		return fromJSON(v.Root())
	case string:
		return text(v)
	case bool:
		return truth(v)
	case jsonvalue.Number:
		return fromNumber(string(v))
	case ref.Val:
		return fromRef(v)
	}
	return value{kind: other, val: adapter{}.NativeToValue(v)}
}

func fromRef(v ref.Val) value {
	switch v := v.(type) {
	case types.Null:
		return value{kind: null}
	case types.Bool:
		return truth(bool(v))
	case types.Int:
		return whole(int64(v))
	case types.Double:
		return value{kind: double, n: int64(math.Float64bits(float64(v)))}
	case types.String:
		return text(string(v))
	}
	if types.IsUnknownOrError(v) {
		return value{}
	}
	return value{kind: other, val: v}
}

// ref is a value for CEL.
func (v *value) ref() ref.Val {
	switch v.kind {
	case null:
		return types.NullValue
	case boolean:
		return types.Bool(v.n != 0)
	case integer:
		return types.Int(v.n)
	case double:
		return types.Double(v.float())
	case str:
		return types.String(v.s)
	case node:
		return adapter{}.NativeToValue(v.node.Tree())
	case fields:
		return adapter{}.NativeToValue(all(v.fields))
	case other:
		return v.val
	}
	return types.NewErr("absent")
}

func (v *value) float() float64 { return math.Float64frombits(uint64(v.n)) }

// text is what a person would write; empty for what is no text.
func (v *value) text() string {
	switch v.kind {
	case str:
		return v.s
	case integer:
		if v.s != "" {
			return v.s
		}
		return strconv.FormatInt(v.n, 10)
	case double:
		return strconv.FormatFloat(v.float(), 'f', -1, 64)
	case boolean:
		return strconv.FormatBool(v.n != 0)
	case other:
		if u, ok := v.val.(types.Uint); ok {
			return strconv.FormatUint(uint64(u), 10)
		}
	}
	return ""
}

// member is the value under a key; absent if there is none.
func (v *value) member(key string) value {
	switch v.kind {
	case node:
		return fromJSON(v.node.Field(key))
	case fields:
		if v.fields == nil {
			return value{}
		}
		if s, ok := v.fields.Get(key); ok {
			return text(s)
		}
	case other:
		if m, ok := v.val.(traits.Mapper); ok {
			if found, ok := m.Find(types.String(key)); ok {
				return fromRef(found)
			}
		}
	}
	return value{}
}

// isMap says whether a value has members at all.
func (v *value) isMap() bool {
	switch v.kind {
	case node:
		return v.node.Kind() == jsonvalue.Object
	case fields:
		return true
	case other:
		_, ok := v.val.(traits.Mapper)
		return ok
	}
	return false
}

// isList says whether a value is a list.
func (v *value) isList() bool {
	switch v.kind {
	case node:
		return v.node.Kind() == jsonvalue.List
	case other:
		_, ok := v.val.(traits.Lister)
		return ok
	}
	return false
}

// equal compares as CEL does: values of different types are not equal, numbers are compared as numbers.
func (v *value) equal(o *value) value {
	switch {
	case v.kind == absent || o.kind == absent:
		return value{}
	case v.kind == str && o.kind == str:
		return truth(v.s == o.s)
	case v.kind == integer && o.kind == integer, v.kind == boolean && o.kind == boolean:
		return truth(v.n == o.n)
	case v.kind == null || o.kind == null:
		return truth(v.kind == o.kind)
	case v.kind == str || o.kind == str || v.kind == boolean || o.kind == boolean:
		return truth(false)
	}
	return fromRef(types.Equal(v.ref(), o.ref()))
}
