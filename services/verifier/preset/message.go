package preset

import (
	"fmt"
	"hash/crc32"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hookmesh/hookmesh/services/internal/expr"
)

// part is one piece of a message. It appends itself.
type part func(out []byte, m *messageInput) []byte

// messageInput is what a message is made of.
type messageInput struct {
	*Request
	stamp, id string
	// key is what the message is built for, whose bytes some schemes put into it.
	key *key
}

// message is what is signed, ready to be built.
type message struct {
	parts []part
	// whole: it is the body and nothing else, which needs no copy.
	whole bool
	// secret: the secret is a part of it.
	secret bool
}

// compileMessage reads a template.
func (c *compiler) compileMessage(where, template string) message {
	m := message{whole: template == "{body}", secret: strings.Contains(template, "{secret}")}
	for rest := template; rest != ""; {
		literal, after, ok := strings.Cut(rest, "{")
		if literal != "" {
			m.parts = append(m.parts, func(out []byte, _ *messageInput) []byte { return append(out, literal...) })
		}
		if !ok {
			break
		}
		name, tail, ok := strings.Cut(after, "}")
		p := c.part(where, name)
		if !ok || p == nil {
			c.fail("%s: {%s} is no part of a message", where, name)
			break
		}
		m.parts = append(m.parts, p)
		rest = tail
	}
	return m
}

// part finds a piece by its name; nil: there is none.
func (c *compiler) part(where, name string) part {
	switch name {
	case "body":
		return func(out []byte, m *messageInput) []byte { return append(out, m.Body...) }
	case "body:ascii":
		return func(out []byte, m *messageInput) []byte { return appendEscaped(out, m.Body, false) }
	case "body:escaped":
		return func(out []byte, m *messageInput) []byte { return appendEscaped(out, m.Body, true) }
	case "timestamp":
		return func(out []byte, m *messageInput) []byte { return append(out, m.stamp...) }
	case "id":
		return func(out []byte, m *messageInput) []byte { return append(out, m.id...) }
	case "method":
		return func(out []byte, m *messageInput) []byte { return append(out, m.Method...) }
	case "url":
		return func(out []byte, m *messageInput) []byte { return append(out, m.URL...) }
	case "url:port":
		return func(out []byte, m *messageInput) []byte { return append(out, otherPort(m.URL)...) }
	case "url:decoded":
		return func(out []byte, m *messageInput) []byte { return append(out, hubspotDecoded.Replace(m.URL)...) }
	case "path":
		return func(out []byte, m *messageInput) []byte { return append(out, target(m.URL)...) }
	case "host":
		return func(out []byte, m *messageInput) []byte { return append(out, host(m.Request)...) }
	case "form":
		return func(out []byte, m *messageInput) []byte { return appendForm(out, m.Body) }
	case "secret":
		return func(out []byte, m *messageInput) []byte { return append(out, m.key.raw...) }
	case "length":
		return func(out []byte, m *messageInput) []byte { return strconv.AppendInt(out, int64(len(m.Body)), 10) }
	case "crc32":
		return func(out []byte, m *messageInput) []byte {
			return strconv.AppendUint(out, uint64(crc32.ChecksumIEEE(m.Body)), 10)
		}
	}
	kind, argument, _ := strings.Cut(name, ":")
	switch {
	case strings.HasPrefix(name, "="):
		e := c.expr(where, name[1:])
		return func(out []byte, m *messageInput) []byte { return appendExpr(out, m, e) }
	case kind == "header" && argument != "":
		return func(out []byte, m *messageInput) []byte {
			v, _ := m.Header(argument)
			return append(out, v...)
		}
	case kind == "headers" && argument != "":
		return func(out []byte, m *messageInput) []byte { return appendHeaders(out, m.Request, argument) }
	}
	return nil
}

func appendExpr(out []byte, m *messageInput, e expr.Expr) []byte {
	_ = m.decode() // what is not there is absent
	s, _ := e.String(&m.in)
	return append(out, s...)
}

// build appends the message.
func (m *message) build(out []byte, in *messageInput) []byte {
	for _, p := range m.parts {
		out = p(out, in)
	}
	return out
}

// appendEscaped writes a body with everything beyond ASCII as \uXXXX, as senders do that sign before they encode. all: also
// with what Box's SDKs escape besides, which is control characters and backslashes that do not stand before a slash.
func appendEscaped(out, body []byte, all bool) []byte {
	const digits = "0123456789abcdef"
	unit := func(u uint16) {
		out = append(out, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	for i := 0; i < len(body); {
		r, n := utf8.DecodeRune(body[i:])
		short := strings.IndexRune("\b\f\n\r\t", r)
		switch {
		case all && short >= 0:
			out = append(out, '\\', "bfnrt"[short])
		case all && r == '\\' && (i+1 == len(body) || body[i+1] != '/'):
			out = append(out, '\\', '\\')
		case r < utf8.RuneSelf:
			out = append(out, body[i])
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			unit(uint16(high))
			unit(uint16(low))
		default:
			unit(uint16(r))
		}
		i += n
	}
	return out
}

// target is path and query of a URL.
func target(raw string) string {
	if _, after, ok := strings.Cut(raw, "://"); ok {
		if i := strings.IndexAny(after, "/?"); i >= 0 {
			return after[i:]
		}
		return "/"
	}
	return raw
}

func host(r *Request) string {
	if u, err := url.Parse(r.URL); err == nil && u.Host != "" {
		return u.Host
	}
	h, _ := r.Header("Host")
	return h
}

// otherPort is the URL without its port, or with the one of its scheme: senders differ about what they sign.
func otherPort(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	if u.Port() != "" {
		u.Host = u.Hostname()
	} else {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80"}[u.Scheme]+map[string]string{"https": "443"}[u.Scheme])
	}
	return u.String()
}

// hubspotDecoded undoes the escapes that HubSpot undoes before it signs (developers.hubspot.com, "Validating requests").
var hubspotDecoded = strings.NewReplacer("%3A", ":", "%2F", "/", "%3F", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'", "%28", "(", "%29", ")", "%2A", "*", "%2C", ",", "%3B", ";",
	"%3a", ":", "%2f", "/", "%3f", "?", "%2a", "*", "%2c", ",", "%3b", ";")

// appendForm writes a form's fields, sorted by name, name and value after another (Twilio).
func appendForm(out, body []byte) []byte {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return out
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		each := slices.Clone(values[name])
		slices.Sort(each)
		for _, v := range slices.Compact(each) {
			out = append(append(out, name...), v...)
		}
	}
	return out
}

// appendHeaders writes the headers that another header lists, as name:value, joined by ; (Contentful).
func appendHeaders(out []byte, r *Request, list string) []byte {
	listed, _ := r.Header(list)
	names := strings.Split(listed, ",")
	for i, name := range names {
		names[i] = strings.ToLower(strings.TrimSpace(name))
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			out = append(out, ';')
		}
		v, _ := r.Header(name)
		out = fmt.Appendf(out, "%s:%s", name, strings.TrimSpace(v))
	}
	return out
}
