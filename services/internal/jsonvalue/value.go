package jsonvalue

import "iter"

func (v Value) node() *node { return &v.doc.nodes[v.at] }

// Kind is what the value is.
func (v Value) Kind() Kind {
	if v.doc == nil {
		return Absent
	}
	return v.node().kind
}

// Raw is the value as it stands in the text; empty if it is absent.
func (v Value) Raw() string {
	if v.doc == nil {
		return ""
	}
	return v.doc.text[v.node().start:v.node().end]
}

// Range is where the value stands in the text that was parsed.
func (v Value) Range() (start, end int) {
	if v.doc == nil {
		return 0, 0
	}
	return int(v.node().start), int(v.node().end)
}

// Text is the content of a string; empty for everything else.
func (v Value) Text() string {
	if v.Kind() != Str {
		return ""
	}
	n := v.node()
	raw := v.doc.text[n.start+1 : n.end-1]
	if n.escaped {
		return unescape(raw)
	}
	return raw
}

// Field is the member of an object under a key; absent if there is none, or if the value is no object.
func (v Value) Field(key string) Value {
	if v.Kind() != Object {
		return Value{}
	}
	d := v.doc
	for i, end := v.at+1, v.node().next; i < end; i = d.nodes[i].next {
		n := &d.nodes[i]
		if !n.keyEscaped && int(n.keyEnd-n.keyStart) != len(key) {
			continue
		}
		if d.key(i) == key {
			return Value{d, i}
		}
	}
	return Value{}
}

// Index is an element of a list; absent beyond its end, or if the value is no list.
func (v Value) Index(n int) Value {
	if n < 0 {
		return Value{}
	}
	for e := range v.Elements() {
		if n == 0 {
			return e
		}
		n--
	}
	return Value{}
}

// Len counts the elements of a list or the members of an object.
func (v Value) Len() int {
	count := 0
	if k := v.Kind(); k == List || k == Object {
		for i, end := v.at+1, v.node().next; i < end; i = v.doc.nodes[i].next {
			count++
		}
	}
	return count
}

// Elements goes through a list.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != List {
			return
		}
		for i, end := v.at+1, v.node().next; i < end; i = v.doc.nodes[i].next {
			if !yield(Value{v.doc, i}) {
				return
			}
		}
	}
}

// Members goes through an object, in the order of the text.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != Object {
			return
		}
		for i, end := v.at+1, v.node().next; i < end; i = v.doc.nodes[i].next {
			if !yield(v.doc.key(i), Value{v.doc, i}) {
				return
			}
		}
	}
}

// Tree is the value as Decode returns it. It shares nothing with the document but text.
func (v Value) Tree() any {
	switch v.Kind() {
	case True:
		return true
	case False:
		return false
	case Num:
		return Number(v.Raw())
	case Str:
		return v.Text()
	case List:
		list := []any{}
		for e := range v.Elements() {
			list = append(list, e.Tree())
		}
		return list
	case Object:
		object := map[string]any{}
		for k, e := range v.Members() {
			object[k] = e.Tree()
		}
		return object
	}
	return nil
}
