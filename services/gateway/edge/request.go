// Package edge is what stands between the network and the gateway's API: bodies with limits, headers, traces, panics. It
// knows HTTP and nothing of events.
package edge

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// Request is what an HTTP request said, for a service that is called with messages.
type Request struct {
	Method string
	// URL is the request target as received: path and query.
	URL string
	// Headers are all lines; repeated ones in the order in which they came.
	Headers []*eventv1.Header
	// Body is what came, after gzip.
	Body []byte
	// RemoteAddress is the client's, without port; empty: a trusted proxy did not say it.
	RemoteAddress string
	// ReceivedAt is when the headers had been read.
	ReceivedAt time.Time
}

// NewRequest describes r, whose body was read already.
func NewRequest(r *http.Request, proxies *Proxies, body []byte, receivedAt time.Time) *Request {
	address := host(r.RemoteAddr)
	if len(proxies.Trusted) > 0 {
		address = ""
		if a := proxies.Address(r); a.IsValid() {
			address = a.String()
		}
	}
	return &Request{
		Method: r.Method, URL: target(r), Headers: headerLines(r), Body: body,
		RemoteAddress: address, ReceivedAt: receivedAt,
	}
}

// target is the request target. Proxies may send it in absolute form.
func target(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return ValidURL(r.RequestURI)
	}
	return ValidURL(r.URL.RequestURI())
}

// ValidURL escapes the bytes of a URL that are not UTF-8. They are against RFC 3986, yet servers let them through, and no
// message can carry them.
func ValidURL(url string) string {
	if utf8.ValidString(url) {
		return url
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(url); {
		r, n := utf8.DecodeRuneInString(url[i:])
		if r == utf8.RuneError && n <= 1 {
			b.WriteByte('%')
			b.WriteByte(digits[url[i]>>4])
			b.WriteByte(digits[url[i]&15])
			i++
			continue
		}
		b.WriteString(url[i : i+n])
		i += n
	}
	return b.String()
}

// headerLines lists the headers. net/http takes Host out of them; signatures may cover it.
func headerLines(r *http.Request) []*eventv1.Header {
	var room [24]string
	names, count, size := room[:0], 1, len(r.Host)
	for name, values := range r.Header {
		names = append(names, name)
		count += len(values)
		for _, v := range values {
			size += len(v)
		}
	}
	slices.Sort(names) // a map has no order; at least it is always the same
	// One piece of memory for all lines and one for all values: a request has about ten.
	b := lineBuilder{lines: make([]eventv1.Header, count), values: make([]byte, 0, size), list: make([]*eventv1.Header, 0, count)}
	if r.Host != "" {
		b.add("Host", r.Host)
	}
	for _, name := range names {
		for _, value := range r.Header[name] {
			b.add(name, value)
		}
	}
	return b.list
}

// lineBuilder lays header lines out in memory that was counted before.
type lineBuilder struct {
	lines  []eventv1.Header
	values []byte
	list   []*eventv1.Header
}

func (b *lineBuilder) add(name, value string) {
	start := len(b.values)
	b.values = append(b.values, value...)
	line := &b.lines[len(b.list)]
	line.Name, line.Value = name, b.values[start:len(b.values):len(b.values)]
	b.list = append(b.list, line)
}

func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return h
}
