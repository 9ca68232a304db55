package preset

import (
	"maps"
	"slices"

	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Response is what a provider expects to hear.
type Response struct {
	Status  int
	Headers []ResponseHeader
	Body    []byte
}

// ResponseHeader is one header line of an answer.
type ResponseHeader struct{ Name, Value string }

// Outcomes for which a preset may have an answer of its own.
const (
	Accepted    = "accepted"
	Ignored     = "ignored"
	Quarantined = "quarantined"
	Rejected    = "rejected"
)

// answer is an Answer made ready.
type answer struct {
	status      int
	contentType string
	names       []string
	headers     []expr.Expr
	body        expr.Expr
	members     []string
	json        []expr.Expr
}

func (c *compiler) answer(where string, a *Answer) *answer {
	if a == nil {
		return nil
	}
	out := &answer{status: a.Status, contentType: a.ContentType, body: c.expr(where+".body", a.Body)}
	if out.status == 0 {
		out.status = 200
	}
	if out.status < 200 || out.status > 599 {
		c.fail("%s.status: %d is no status of an answer", where, out.status)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		out.names, out.headers = append(out.names, name), append(out.headers, c.expr(where+".headers."+name, a.Headers[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(a.JSON)) {
		out.members, out.json = append(out.members, name), append(out.json, c.expr(where+".json."+name, a.JSON[name]))
	}
	if out.contentType == "" {
		out.contentType = "text/plain; charset=utf-8"
		if len(out.members) > 0 {
			out.contentType = "application/json"
		}
	}
	return out
}

func (c *compiler) answers(r Respond) map[string]*answer {
	out := map[string]*answer{}
	for name, a := range map[string]*Answer{Accepted: r.Accepted, Ignored: r.Ignored, Quarantined: r.Quarantined, Rejected: r.Rejected} {
		if made := c.answer("respond."+name, a); made != nil {
			out[name] = made
		}
	}
	if a := out[Rejected]; a != nil && (a.status < 400 || a.status > 499) {
		c.fail("respond.rejected.status: %d is not 4xx: a refused delivery must not look accepted, nor as our own fault", a.status)
	}
	return out
}

// render fills the answer from the request.
func (a *answer) render(in *expr.Input) *Response {
	out := &Response{Status: a.status}
	if a.body.Defined() || len(a.members) > 0 {
		out.Headers = append(out.Headers, ResponseHeader{"Content-Type", a.contentType})
	}
	for i, name := range a.names {
		if v, ok := a.headers[i].String(in); ok {
			out.Headers = append(out.Headers, ResponseHeader{name, v})
		}
	}
	if len(a.members) > 0 {
		object := map[string]any{}
		for i, name := range a.members {
			if v, ok := a.json[i].Value(in); ok {
				object[name] = v
			}
		}
		out.Body = jsonvalue.Canonical(object, nil)
		return out
	}
	body, _ := a.body.String(in)
	out.Body = []byte(body)
	return out
}

// Respond is the preset's own answer to an outcome; nil: hookmesh's will do.
func (c *Compiled) Respond(outcome string, r *Request) *Response {
	a := c.answers[outcome]
	if a == nil {
		return nil
	}
	return a.render(&r.in)
}
