package preset

import (
	"bytes"
	"net/url"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Redacted stands where something was taken out.
const Redacted = "[redacted]"

// RedactedHeaders are those that the preset takes for credentials, besides those whose names say so.
func (c *Compiled) RedactedHeaders() []string { return c.headers }

// RedactedParameters are the parameters of the URL in which the provider's credentials stand, besides those whose names say so.
func (c *Compiled) RedactedParameters() []string { return c.parameters }

// Payload is the body without what the preset redacts. What cannot be read is kept as it is: a body whose credential stands in
// it could not have been proven authentic without being read.
func (r *Request) Payload() []byte {
	p := r.preset.redacted
	if p == nil {
		return r.Body
	}
	switch body := r.in.Body.(type) {
	case *jsonvalue.Doc:
		return redact(body.Root(), p)
	case map[string]any:
		if r.ContentType() != "application/x-www-form-urlencoded" {
			return jsonvalue.AppendTree(nil, body, p) // XML: what is left of it, as JSON
		}
		values := url.Values{}
		for name, v := range body {
			if s, ok := v.(string); ok && !p.Drops(name) {
				values.Set(name, s)
			}
		}
		return []byte(values.Encode())
	}
	return r.Body
}

// item is the payload of one item of a delivery; nil for the whole.
func (r *Request) item(number int) []byte {
	if number < 0 {
		return nil
	}
	return r.payload()
}

// payload is the current item's. The preset's paths begin at the whole body; inside an item they apply wherever they fit.
func (r *Request) payload() []byte {
	p := r.preset.redacted
	switch v := r.in.Item.(type) {
	case jsonvalue.Value:
		return redact(v, append(p.Below(), p)...)
	case nil:
		return nil
	default:
		return jsonvalue.AppendTree(nil, expr.Native(v), p)
	}
}

// within is an item in its list.
type within struct {
	list []any
	item any
}

const (
	// maxAlone and maxAloneBody bound for how many items of a delivery, and of how large ones, it is kept how they would come alone.
	maxAlone     = 100
	maxAloneBody = 1 << 20
)

// alone is the body as if it held the current item alone, so that the item can be read again by itself; nil if that cannot be made:
// the list was computed, or the body is no JSON.
func (r *Request) alone(m *Meaning) []byte {
	if len(r.lists) == 0 || r.doc == nil || len(m.Troubles) >= maxAlone || len(r.Body) > maxAloneBody {
		return nil
	}
	root := r.doc.Root()
	if !bytes.Equal(bytes.TrimSpace(r.Body), []byte(root.Raw())) {
		return nil // the JSON stands inside of something else
	}
	var cuts []cut
	for _, w := range r.lists {
		item, ok1 := w.item.(jsonvalue.Value)
		first, ok2 := w.list[0].(jsonvalue.Value)
		last, ok3 := w.list[len(w.list)-1].(jsonvalue.Value)
		if !ok1 || !ok2 || !ok3 {
			return nil
		}
		from, _ := first.Range()
		start, end := item.Range()
		_, to := last.Range()
		cuts = append(cuts, cut{from, start, ""}, cut{end, to, ""})
	}
	if p := r.preset.redacted; p != nil {
		root.Each(p, func(found jsonvalue.Value) {
			start, end := found.Range()
			cuts = append(cuts, cut{start, end, `"` + Redacted + `"`})
		})
	}
	return without(root, cuts)
}

// cut is a stretch of a text and what stands in its place.
type cut struct {
	start, end int
	instead    string
}

// without is a value's text without some stretches. Of those that overlap the first one counts.
func without(v jsonvalue.Value, cuts []cut) []byte {
	text := v.Raw()
	from, _ := v.Range()
	slices.SortStableFunc(cuts, func(a, b cut) int { return a.start - b.start })
	var out []byte
	at := 0
	for _, c := range cuts {
		if start, end := c.start-from, c.end-from; start >= at && end > start {
			out = append(append(out, text[at:start]...), c.instead...)
			at = end
		}
	}
	return append(out, text[at:]...)
}

// redact is a value's text without what stands at the paths.
func redact(v jsonvalue.Value, paths ...*jsonvalue.Paths) []byte {
	var cuts []cut
	for _, p := range paths {
		v.Each(p, func(found jsonvalue.Value) {
			start, end := found.Range()
			cuts = append(cuts, cut{start, end, `"` + Redacted + `"`})
		})
	}
	return without(v, cuts)
}
