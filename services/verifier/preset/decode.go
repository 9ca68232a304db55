package preset

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Trouble is something that cannot be understood.
type Trouble struct {
	Code   string
	Reason string
	// Payload is the item, if the delivery holds several; nil: the whole body.
	Payload []byte
	// Delivery is the body with that item alone; nil if there is no item, or it cannot be made.
	Delivery []byte
}

// decode reads the body as the preset says, once.
func (r *Request) decode() *Trouble {
	if !r.decoded {
		r.decoded = true
		r.trouble = r.preset.decode(r)
	}
	return r.trouble
}

// Decode reads the body as the preset says; nil: it could be read.
func (r *Request) Decode() *Trouble { return r.decode() }

func (c *Compiled) decode(r *Request) *Trouble {
	for i := range c.decoders {
		d := &c.decoders[i]
		if d.when.Defined() && !d.when.Bool(&r.in) {
			continue
		}
		switch d.As {
		case "none":
			return nil
		case "json-lines":
			return r.decodeLines()
		case "xml":
			tree, err := decodeXML(r.Body)
			if err != nil {
				return &Trouble{Code: "PAYLOAD_NOT_XML", Reason: "the payload cannot be read: " + err.Error()}
			}
			r.in.Body = tree
			return nil
		case "form", "form-json":
			return r.decodeForm(d)
		}
		if trouble := r.decodeJSON(r.Body); trouble != nil || d.Field == "" {
			return trouble
		}
		inner := r.doc.Root().Field(d.Field)
		if inner.Kind() != jsonvalue.Str {
			return &Trouble{Code: "PAYLOAD_NOT_JSON", Reason: "the payload cannot be read: its field " + d.Field + " is no text"}
		}
		return r.decodeJSON([]byte(inner.Text()))
	}
	return r.decodeJSON(r.Body)
}

// decodeLines reads one JSON value per line. A line that cannot be read makes the whole unreadable: nothing says where it ends.
func (r *Request) decodeLines() *Trouble {
	list := []any{}
	for line := range bytes.Lines(r.Body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		v, err := jsonvalue.Decode(line)
		if err != nil || len(list) >= MaxItems {
			return &Trouble{Code: "PAYLOAD_NOT_JSON", Reason: fmt.Sprintf("line %d of the payload cannot be read, or is one too many", len(list)+1)}
		}
		list = append(list, v)
	}
	r.in.Body = list
	return nil
}

// maxFields bounds the fields of a form.
const maxFields = 10_000

func (r *Request) decodeForm(d *decoder) *Trouble {
	if bytes.Count(r.Body, []byte("&")) > maxFields {
		return &Trouble{Code: "PAYLOAD_NOT_FORM", Reason: "the form has too many fields"}
	}
	values, err := url.ParseQuery(string(r.Body))
	if err != nil {
		return &Trouble{Code: "PAYLOAD_NOT_FORM", Reason: "the body is no URL-encoded form"}
	}
	if d.As == "form-json" {
		return r.decodeJSON([]byte(values.Get(d.Field)))
	}
	object := map[string]any{}
	for k := range values {
		object[strings.ToValidUTF8(k, "\uFFFD")] = strings.ToValidUTF8(values.Get(k), "\uFFFD")
	}
	r.in.Body = object
	return nil
}

func (r *Request) decodeJSON(raw []byte) *Trouble {
	doc, err := jsonvalue.Parse(raw)
	if err == nil {
		if r.doc != nil {
			r.doc.Free()
		}
		r.doc, r.in.Body = doc, doc
		return nil
	}
	code := "PAYLOAD_NOT_JSON"
	switch {
	case errors.Is(err, jsonvalue.ErrDuplicateKey):
		return &Trouble{Code: "PAYLOAD_DUPLICATE_KEY", Reason: "the payload is ambiguous: " + err.Error()}
	case errors.Is(err, jsonvalue.ErrInvalidUTF8):
		code = "PAYLOAD_INVALID_UTF8"
	case errors.Is(err, jsonvalue.ErrTooDeep):
		code = "PAYLOAD_TOO_DEEP"
	}
	return &Trouble{Code: code, Reason: "the payload cannot be read: " + err.Error()}
}

// Bounds of an XML document. encoding/xml expands no entities but the five of XML, so that none can explode.
const (
	maxElements = 200_000
	maxDepth    = jsonvalue.MaxDepth
)

var (
	errXMLTooDeep = errors.New("the XML is nested too deep")
	errXMLTooMany = errors.New("the XML has too many elements")
	errXML        = errors.New("not valid XML")
)

// element is an XML element while it is read.
type element struct {
	name    string
	members map[string]any
	text    strings.Builder
}

func (e *element) add(name string, v any) {
	switch old := e.members[name].(type) {
	case nil:
		e.members[name] = v
	case []any:
		e.members[name] = append(old, v)
	default:
		e.members[name] = []any{old, v}
	}
}

// value is an element as a JSON value: its text if it has nothing else.
func (e *element) value() any {
	text := strings.TrimSpace(e.text.String())
	if len(e.members) == 0 {
		return text
	}
	if text != "" {
		e.members["#text"] = text
	}
	return e.members
}

// decodeXML reads an XML document as a JSON object: elements by their local names, attributes as @name, lists where an element
// repeats. An element with text alone is that text.
func decodeXML(raw []byte) (any, error) {
	dec := xml.NewDecoder(bytes.NewReader(raw))
	dec.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, errXML }
	stack := []*element{{members: map[string]any{}}}
	for count := 0; ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errXML
		}
		top := stack[len(stack)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			if count++; count > maxElements {
				return nil, errXMLTooMany
			}
			if len(stack) > maxDepth {
				return nil, errXMLTooDeep
			}
			e := &element{name: tok.Name.Local, members: map[string]any{}}
			for _, a := range tok.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					e.members["@"+a.Name.Local] = a.Value
				}
			}
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
			stack[len(stack)-1].add(top.name, top.value())
		case xml.CharData:
			top.text.Write(tok)
		case xml.Directive:
			return nil, errXML // a DOCTYPE has no place in a webhook
		}
	}
	if len(stack) != 1 || len(stack[0].members) == 0 {
		return nil, errXML
	}
	return stack[0].members, nil
}
