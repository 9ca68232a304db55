package preset

import (
	"bytes"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// compiled is a preset of the tests.
func compiled(t testing.TB, text string) *Compiled {
	p, err := Parse([]byte("name: t\nverify: [{algorithm: none}]\nevents: [{ignore: x}]\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Compile(Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func FuzzSignatureParser(f *testing.F) {
	for _, s := range []string{"sha256=ab", "t=1,v1=ab,v1=zz", "v1,YWI= v1a,eHg=", "", ",,,", "v1=" + strings.Repeat("a", 300), "v1=⚠️"} {
		f.Add(s, "v1=", ",")
		f.Add(s, "", "")
	}
	c := compiled(f, "")
	f.Fuzz(func(t *testing.T, value, prefix, separator string) {
		r := &Request{}
		r.Reset(c, "POST", "/", []*eventv1.Header{{Name: "X-S", Value: []byte(value)}}, nil)
		defer r.Free()
		fd := field{Field: Field{Header: "x-s", Prefix: prefix, Separator: separator}}
		found, raw := fd.values(r, nil)
		if len(found) > maxSignatures || len(found) > raw {
			t.Fatalf("%d found of %d", len(found), raw)
		}
		for _, s := range found {
			if !strings.Contains(value, s) {
				t.Fatalf("%q stands nowhere in %q", s, value)
			}
			for _, encoding := range []string{"", "hex", "base64", "p1363-base64"} {
				kept := []byte("kept")
				out, err := decodeSignature(kept, encoding, s)
				if err == nil && !bytes.HasPrefix(out, kept) {
					t.Fatalf("decoding %q as %s wrote over what was there", s, encoding)
				}
			}
		}
	})
}

func FuzzTimestampParser(f *testing.F) {
	for _, s := range []string{"1700000000", "1700000000123", "2026-01-02T03:04:05Z", "-1", "9223372036854775807", "1e9", "", "2016-07-11T10:10:33-07:00"} {
		for _, unit := range []string{"", "auto", "s", "ms", "us", "rfc3339"} {
			f.Add(s, unit)
		}
	}
	f.Fuzz(func(t *testing.T, s, unit string) {
		at, ok := ParseTimestamp(s, unit)
		if again, same := ParseTimestamp(s, unit); same != ok || !again.Equal(at) {
			t.Fatal("the same text is two times")
		}
		if ok && unit == "s" && at.Before(time.Unix(0, 0)) {
			t.Fatalf("%q is %v", s, at)
		}
	})
}

func FuzzDecoders(f *testing.F) {
	f.Add([]byte(`{"payload":"{\"a\":1}"}`))
	f.Add([]byte("a=1&b=%7B%7D&payload=%7B%22a%22%3A1%7D"))
	f.Add([]byte(`<?xml version="1.0"?><a x="1"><b>t</b><b/></a>`))
	f.Add([]byte("{}\n[1]\n"))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>`))
	var all []*Compiled
	for _, how := range []string{"{as: json}", "{as: json, field: payload}", "{as: json-lines}", "{as: form}", "{as: form-json, field: payload}", "{as: xml}", "{as: none}"} {
		all = append(all, compiled(f, "decode: ["+how+"]\nredact: {fields: [a, b.c, payload]}\n"))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range all {
			r := &Request{}
			r.Reset(c, "POST", "/", nil, body)
			if trouble := r.Decode(); trouble != nil && (trouble.Code == "" || trouble.Reason == "") {
				t.Fatal("trouble without a reason")
			}
			_ = r.Payload()
			_, _ = c.rules[0].title.String(&r.in)
			r.Free()
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add("https://x.example:8443/a?b=1", []byte(`{"a":"é"}`), "v1,t=1")
	c := &compiler{}
	m := c.compileMessage("m", "{body:ascii}{body:escaped}{timestamp}{id}{method}{url}{url:port}{url:decoded}{path}{host}{header:X-A}{headers:X-A}{form}{secret}{length}{crc32}{=body.a}")
	if len(c.errs) > 0 {
		f.Fatal(c.errs)
	}
	preset := compiled(f, "")
	f.Fuzz(func(t *testing.T, url string, body []byte, header string) {
		r := &Request{}
		r.Reset(preset, "POST", url, []*eventv1.Header{{Name: "X-A", Value: []byte(header)}}, body)
		defer r.Free()
		in := &messageInput{Request: r, stamp: "1", id: "2", key: &key{raw: []byte("s")}}
		if !bytes.Equal(m.build(nil, in), m.build(nil, in)) {
			t.Fatal("one request, two messages")
		}
		_ = queryHash("POST", url)
	})
}
