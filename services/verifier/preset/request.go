package preset

import (
	"mime"
	"net/url"
	"strings"
	"unsafe"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Request is one delivery. It is judged by one goroutine; Reset makes it ready for another delivery and keeps its memory.
type Request struct {
	Method string
	// URL is what signatures over the URL cover: the source's public URL if it has one, else the request target.
	URL string
	// Headers are all header lines; lines of one name stand in their order. Nobody changes them while they are judged.
	Headers []*eventv1.Header
	Body    []byte

	preset  *Compiled
	in      expr.Input
	target  string
	query   url.Values
	decoded bool
	trouble *Trouble
	doc     *jsonvalue.Doc
	scratch []byte
	found   []string
	proofs  [][]byte
	digest  []byte
	buffer  []byte
	// lists are those that the current item stands in, the outer one first.
	lists []within
	// signed is what the signature that fits covers.
	signed []byte
}

// Reset prepares the request for a delivery to a source with the given preset.
func (r *Request) Reset(c *Compiled, method, target string, headers []*eventv1.Header, body []byte) {
	r.Free()
	*r = Request{preset: c, Method: method, URL: target, Headers: headers, Body: body, scratch: r.scratch[:0], found: r.found[:0], proofs: r.proofs[:0], digest: r.digest[:0], buffer: r.buffer[:0]}
	r.in = expr.Input{Headers: (*headerFields)(r), Query: (*queryFields)(r), Method: method, URL: target}
}

// Target says what the request line held, where it is not the URL that signatures cover: the query that expressions see is its.
func (r *Request) Target(target string) { r.target = target }

// Free gives up what the request holds of the delivery. What was extracted from it stays valid.
func (r *Request) Free() {
	if r.doc != nil {
		r.doc.Free()
	}
	r.doc, r.in, r.Headers, r.Body, r.query, r.trouble, r.signed, r.preset, r.lists = nil, expr.Input{}, nil, nil, nil, nil, nil, nil, nil
	if cap(r.scratch) > 1<<20 {
		r.scratch = nil
	}
	if cap(r.buffer) > 1<<20 {
		r.buffer = nil
	}
}

// Header is the first line of a name; ok is false if there is none.
func (r *Request) Header(name string) (value string, ok bool) {
	for _, h := range r.Headers {
		if len(h.GetName()) == len(name) && strings.EqualFold(h.GetName(), name) {
			return text(h.GetValue()), true
		}
	}
	return "", false
}

// text is a header's value without a copy: the bytes of a request do not change.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Values is the query of the URL.
func (r *Request) Values() url.Values {
	if r.query == nil {
		r.query = url.Values{}
		from := r.target
		if from == "" {
			from = r.URL
		}
		if _, raw, ok := strings.Cut(from, "?"); ok {
			raw, _, _ = strings.Cut(raw, "#")
			r.query, _ = url.ParseQuery(raw) // what cannot be read is left out
		}
	}
	return r.query
}

// ContentType is the media type of the request, in lower case.
func (r *Request) ContentType() string {
	value, _ := r.Header("Content-Type")
	if value == "application/json" {
		return value
	}
	media, _, err := mime.ParseMediaType(value)
	if err != nil {
		return ""
	}
	return media
}

// headerFields shows headers to expressions, by lower-case name. content-type is always there.
type headerFields Request

// Get implements expr.Fields.
func (h *headerFields) Get(name string) (string, bool) {
	v, ok := (*Request)(h).Header(name)
	if !ok {
		return "", name == "content-type"
	}
	return strings.ToValidUTF8(v, "\uFFFD"), true
}

// All implements expr.Fields.
func (h *headerFields) All() map[string]string {
	all := map[string]string{"content-type": ""}
	for _, line := range h.Headers {
		name := strings.ToLower(line.GetName())
		if all[name] == "" {
			all[name] = strings.ToValidUTF8(string(line.GetValue()), "\uFFFD")
		}
	}
	return all
}

// queryFields shows the query to expressions.
type queryFields Request

// Get implements expr.Fields.
func (q *queryFields) Get(name string) (string, bool) {
	v, ok := (*Request)(q).Values()[name]
	if !ok {
		return "", false
	}
	return strings.ToValidUTF8(v[0], "\uFFFD"), true
}

// All implements expr.Fields.
func (q *queryFields) All() map[string]string {
	all := map[string]string{}
	for k, v := range (*Request)(q).Values() {
		all[strings.ToValidUTF8(k, "\uFFFD")] = strings.ToValidUTF8(v[0], "\uFFFD")
	}
	return all
}
