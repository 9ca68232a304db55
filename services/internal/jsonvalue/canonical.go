package jsonvalue

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Paths are places that the canonical form leaves out: "a.b" is key b of the object under key a; lists are looked through.
// The zero value leaves out nothing. It does not change and may be shared.
type Paths struct {
	drop bool
	next map[string]*Paths
}

// NewPaths prepares paths.
func NewPaths(paths []string) *Paths {
	root := &Paths{}
	for _, p := range paths {
		at := root
		for _, key := range strings.Split(p, ".") {
			if at.next == nil {
				at.next = map[string]*Paths{}
			}
			if at.next[key] == nil {
				at.next[key] = &Paths{}
			}
			at = at.next[key]
		}
		at.drop = true
	}
	return root
}

func (p *Paths) under(key string) *Paths {
	if p == nil || p.next == nil {
		return nil
	}
	return p.next[key]
}

// Canonical writes a tree in one way only: keys sorted, no spaces, numbers as they were written; without the given paths.
func Canonical(v any, without []string) []byte { return AppendTree(nil, v, NewPaths(without)) }

// Hash is the SHA-256 of Canonical.
func Hash(v any, without []string) [32]byte { return sha256.Sum256(Canonical(v, without)) }

// HashTree is Hash with prepared paths.
func HashTree(v any, without *Paths) [32]byte { return sha256.Sum256(AppendTree(nil, v, without)) }

var buffers = sync.Pool{New: func() any { return &writer{} }}

// Hash is the SHA-256 of the value's canonical form, which is that of its Tree.
func (v Value) Hash(without *Paths) [32]byte {
	w, _ := buffers.Get().(*writer)
	w.out, w.order = w.out[:0], w.order[:0]
	w.value(v, without)
	sum := sha256.Sum256(w.out)
	if cap(w.out) <= 1<<20 {
		buffers.Put(w)
	}
	return sum
}

// AppendCanonical appends the value's canonical form.
func (v Value) AppendCanonical(b []byte, without *Paths) []byte {
	w := writer{out: b}
	w.value(v, without)
	return w.out
}

// writer writes canonical forms. order is a stack of members that are still to be written.
type writer struct {
	out   []byte
	order []uint32
}

func (w *writer) value(v Value, without *Paths) {
	switch v.Kind() {
	case Object:
		w.object(v, without)
	case List:
		w.out = append(w.out, '[')
		first := true
		for e := range v.Elements() {
			if !first {
				w.out = append(w.out, ',')
			}
			first = false
			w.value(e, without)
		}
		w.out = append(w.out, ']')
	case Str:
		if v.node().escaped {
			w.out = appendQuoted(w.out, v.Text())
			return
		}
		w.out = append(w.out, v.Raw()...) // what needs no escape stands there in one way only
	case Absent:
		w.out = append(w.out, "null"...)
	default:
		w.out = append(w.out, v.Raw()...)
	}
}

func (w *writer) object(v Value, without *Paths) {
	d, from := v.doc, len(w.order)
	for i, end := v.at+1, v.node().next; i < end; i = d.nodes[i].next {
		w.order = append(w.order, i)
	}
	slices.SortFunc(w.order[from:], func(a, b uint32) int { return cmp.Compare(d.key(a), d.key(b)) })
	w.out = append(w.out, '{')
	first := true
	for n := from; n < len(w.order); n++ {
		i := w.order[n]
		key := d.key(i)
		below := without.under(key)
		if below != nil && below.drop {
			continue
		}
		if !first {
			w.out = append(w.out, ',')
		}
		first = false
		if d.nodes[i].keyEscaped {
			w.out = appendQuoted(w.out, key)
		} else {
			w.out = append(append(append(w.out, '"'), key...), '"')
		}
		w.out = append(w.out, ':')
		end := len(w.order)
		w.value(Value{d, i}, below)
		w.order = w.order[:end]
	}
	w.order = w.order[:from]
	w.out = append(w.out, '}')
}

func appendQuoted(b []byte, s string) []byte {
	out, err := jsontext.AppendQuote(b, s)
	if err != nil {
		return strconv.AppendQuote(b, s)
	}
	return out
}

// AppendTree appends the canonical form of a tree, without the given paths.
func AppendTree(b []byte, v any, without *Paths) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case Number:
		return append(b, v...)
	case string:
		return appendQuoted(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendTree(b, e, without)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		first := true
		for _, k := range slices.Sorted(maps.Keys(v)) {
			below := without.under(k)
			if below != nil && below.drop {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendQuoted(b, k), ':')
			b = AppendTree(b, v[k], below)
		}
		return append(b, '}')
	case Value:
		return v.AppendCanonical(b, without)
	}
	return append(b, "null"...)
}

// Drops says whether a path of one name is one of those.
func (p *Paths) Drops(name string) bool {
	below := p.under(name)
	return below != nil && below.drop
}

// Below are the paths under every name, as seen from there.
func (p *Paths) Below() []*Paths {
	var all []*Paths
	if p == nil {
		return nil
	}
	for _, next := range p.next {
		all = append(append(all, next), next.Below()...)
	}
	return all
}

// Each calls found for every value at one of the paths.
func (v Value) Each(p *Paths, found func(Value)) {
	switch v.Kind() {
	case List:
		for e := range v.Elements() {
			e.Each(p, found)
		}
	case Object:
		for k, e := range v.Members() {
			below := p.under(k)
			switch {
			case below == nil:
			case below.drop:
				found(e)
			default:
				e.Each(below, found)
			}
		}
	}
}
