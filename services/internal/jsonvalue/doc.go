package jsonvalue

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"sync"
	"unicode/utf8"
)

// Kind is what a Value is.
type Kind uint8

// The kinds of values. Absent is that of the zero Value: nothing stands there.
const (
	Absent Kind = iota
	Null
	False
	True
	Num
	Str
	List
	Object
)

// node is one value of a document: a range of the text. Values inside it follow it directly, up to next.
type node struct {
	start, end       uint32
	keyStart, keyEnd uint32
	next             uint32
	kind             Kind
	escaped          bool
	keyEscaped       bool
}

// Doc is a JSON text that was checked whole and is read only where somebody looks: nothing is copied out of it before.
// What its values return stays valid after Free; the values themselves do not.
type Doc struct {
	text  string
	nodes []node
}

// Value is a place in a Doc. The zero Value is absent.
type Value struct {
	doc *Doc
	at  uint32
}

// maxPooledNodes bounds what an unusually large document leaves in the pool.
const maxPooledNodes = 1 << 14

var docs = sync.Pool{New: func() any { return &Doc{} }}

// Parse reads one JSON value as strictly as Decode. Its errors are the same.
func Parse(data []byte) (*Doc, error) {
	if len(data) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes are too many", ErrSyntax, len(data))
	}
	if !utf8.Valid(data) {
		return nil, ErrInvalidUTF8
	}
	d, _ := docs.Get().(*Doc)
	d.nodes = d.nodes[:0]
	p := parser{data: data, doc: d}
	d.text = string(data)
	if err := p.document(); err != nil {
		d.Free()
		return nil, err
	}
	return d, nil
}

// Free gives the document's memory back. None of its values may be used afterwards.
func (d *Doc) Free() {
	d.text = ""
	if cap(d.nodes) <= maxPooledNodes {
		docs.Put(d)
	}
}

// Root is the whole document.
func (d *Doc) Root() Value {
	if d == nil || len(d.nodes) == 0 {
		return Value{}
	}
	return Value{doc: d}
}

// parser checks a text and notes where its values stand.
type parser struct {
	data []byte
	doc  *Doc
	pos  int
}

func (p *parser) bad() error { return fmt.Errorf("%w: at byte %d", ErrSyntax, p.pos) }

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) document() error {
	p.space()
	if err := p.value(0, 0, 0, false); err != nil {
		return err
	}
	p.space()
	if p.pos < len(p.data) {
		return fmt.Errorf("%w: something follows the value", ErrSyntax)
	}
	return nil
}

// value reads the value at the position. The key's range belongs to it if it stands in an object.
func (p *parser) value(depth int, keyStart, keyEnd uint32, keyEscaped bool) error {
	if depth > MaxDepth {
		return ErrTooDeep
	}
	if p.pos >= len(p.data) {
		return p.bad()
	}
	at := len(p.doc.nodes)
	p.doc.nodes = append(p.doc.nodes, node{start: uint32(p.pos), keyStart: keyStart, keyEnd: keyEnd, keyEscaped: keyEscaped})
	var kind Kind
	var escaped bool
	var err error
	switch c := p.data[p.pos]; c {
	case '{':
		kind, err = Object, p.object(depth, at)
	case '[':
		kind, err = List, p.list(depth)
	case '"':
		kind = Str
		escaped, err = p.text()
	case 't':
		kind, err = True, p.word("true")
	case 'f':
		kind, err = False, p.word("false")
	case 'n':
		kind, err = Null, p.word("null")
	default:
		kind, err = Num, p.number()
	}
	n := &p.doc.nodes[at]
	n.kind, n.escaped, n.end, n.next = kind, escaped, uint32(p.pos), uint32(len(p.doc.nodes))
	return err
}

func (p *parser) word(w string) error {
	if len(p.data)-p.pos < len(w) || string(p.data[p.pos:p.pos+len(w)]) != w {
		return p.bad()
	}
	p.pos += len(w)
	return nil
}

func (p *parser) list(depth int) error {
	p.pos++
	p.space()
	if p.next(']') {
		return nil
	}
	for {
		p.space()
		if err := p.value(depth+1, 0, 0, false); err != nil {
			return err
		}
		p.space()
		if p.next(']') {
			return nil
		}
		if !p.next(',') {
			return p.bad()
		}
	}
}

func (p *parser) object(depth, at int) error {
	p.pos++
	p.space()
	if p.next('}') {
		return nil
	}
	members := 0
	for {
		p.space()
		if p.pos >= len(p.data) || p.data[p.pos] != '"' {
			return p.bad()
		}
		start := p.pos
		escaped, err := p.text()
		if err != nil {
			return err
		}
		end := p.pos
		p.space()
		if !p.next(':') {
			return p.bad()
		}
		p.space()
		if err := p.value(depth+1, uint32(start+1), uint32(end-1), escaped); err != nil {
			return err
		}
		members++
		p.space()
		if p.next('}') {
			p.doc.nodes[at].next = uint32(len(p.doc.nodes))
			return p.unique(at, members)
		}
		if !p.next(',') {
			return p.bad()
		}
	}
}

func (p *parser) next(c byte) bool {
	if p.pos < len(p.data) && p.data[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// pairwise is how many members an object may have for each to be compared with each.
const pairwise = 48

// unique refuses an object that names a key twice.
func (p *parser) unique(at, members int) error {
	d := p.doc
	end := d.nodes[at].next
	if members <= pairwise {
		for i := uint32(at + 1); i < end; i = d.nodes[i].next {
			key := d.key(i)
			for j := uint32(at + 1); j < i; j = d.nodes[j].next {
				if d.nodes[j].keyEscaped || len(key) == int(d.nodes[j].keyEnd-d.nodes[j].keyStart) {
					if d.key(j) == key {
						return ErrDuplicateKey
					}
				}
			}
		}
		return nil
	}
	seen := make(map[string]struct{}, members)
	for i := uint32(at + 1); i < end; i = d.nodes[i].next {
		seen[d.key(i)] = struct{}{}
	}
	if len(seen) < members {
		return ErrDuplicateKey
	}
	return nil
}

// key is the key of a node that stands in an object.
func (d *Doc) key(i uint32) string {
	n := &d.nodes[i]
	raw := d.text[n.keyStart:n.keyEnd]
	if n.keyEscaped {
		return unescape(raw)
	}
	return raw
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks the bytes of eight that end a run of plain text in a string: a quote, a backslash, a control character.
func special(x uint64) uint64 {
	quote, back := x^(ones*'"'), x^(ones*'\\')
	return ((quote-ones)&^quote | (back-ones)&^back | (x-ones*0x20)&^x) & highs
}

// text reads a string and says whether it has escapes.
func (p *parser) text() (escaped bool, err error) {
	p.pos++
	for {
		for p.pos+8 <= len(p.data) && special(binary.LittleEndian.Uint64(p.data[p.pos:])) == 0 {
			p.pos += 8
		}
		if p.pos >= len(p.data) {
			return escaped, p.bad()
		}
		switch c := p.data[p.pos]; {
		case c == '"':
			p.pos++
			return escaped, nil
		case c == '\\':
			escaped = true
			if err := p.escape(); err != nil {
				return escaped, err
			}
		case c < 0x20:
			return escaped, p.bad()
		default:
			p.pos++
		}
	}
}

// escape checks one escape. Half a surrogate pair is no character.
func (p *parser) escape() error {
	if p.pos+1 >= len(p.data) {
		return p.bad()
	}
	switch p.data[p.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.pos += 2
		return nil
	case 'u':
	default:
		return p.bad()
	}
	r, ok := hex4(p.data[p.pos+2:])
	if !ok {
		return p.bad()
	}
	p.pos += 6
	switch {
	case r >= 0xDC00 && r < 0xE000:
		return ErrInvalidUTF8
	case r < 0xD800 || r >= 0xE000:
		return nil
	}
	if p.pos+6 > len(p.data) || p.data[p.pos] != '\\' || p.data[p.pos+1] != 'u' {
		return ErrInvalidUTF8
	}
	low, ok := hex4(p.data[p.pos+2:])
	if !ok || low < 0xDC00 || low >= 0xE000 {
		return ErrInvalidUTF8
	}
	p.pos += 6
	return nil
}

func hex4[T string | []byte](s T) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (p *parser) digits() bool {
	from := p.pos
	for p.pos < len(p.data) && p.data[p.pos] >= '0' && p.data[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > from
}

func (p *parser) number() error {
	p.next('-')
	if !p.next('0') && !p.digits() {
		return p.bad()
	}
	if p.next('.') && !p.digits() {
		return p.bad()
	}
	if p.next('e') || p.next('E') {
		if !p.next('+') {
			p.next('-')
		}
		if !p.digits() {
			return p.bad()
		}
	}
	return nil
}

// unescape reads the inside of a string that was checked before.
func unescape(raw string) string {
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b.WriteByte(raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, _ := hex4(raw[i+1:])
			i += 4
			if r >= 0xD800 && r < 0xDC00 {
				low, _ := hex4(raw[i+3:])
				r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
				i += 6
			}
			b.WriteRune(r)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
