package preset

import (
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

// redact is a value's text without what stands at the paths.
func redact(v jsonvalue.Value, paths ...*jsonvalue.Paths) []byte {
	text := v.Raw()
	from, _ := v.Range()
	var ranges [][2]int
	for _, p := range paths {
		v.Each(p, func(found jsonvalue.Value) {
			start, end := found.Range()
			ranges = append(ranges, [2]int{start - from, end - from})
		})
	}
	slices.SortFunc(ranges, func(a, b [2]int) int { return a[0] - b[0] })
	var out []byte
	at := 0
	for _, g := range ranges {
		if g[0] < at {
			continue
		}
		out = append(append(out, text[at:g[0]]...), `"`+Redacted+`"`...)
		at = g[1]
	}
	return append(out, text[at:]...)
}
