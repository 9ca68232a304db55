package expr

import (
	"fmt"
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// operands are what the generated expressions are made of: what is there, what is null, what is missing, of every type.
var operands = []string{
	`issue`, `issue.id`, `body.issue.id`, `issue.none`, `issue.missing`, `issue.missing.deeper`, `nothing`, `nothing.at.all`, `issue.n`, `issue.big`, `issue.yes`, `issue.empty`, `issue.title`, `list`, `list[0]`, `list[9]`,
	`list[0].a`, `headers`, `headers["x-event"]`, `headers["x-none"]`, `query.event`, `query.none`, `item`, `item.path`, `item.none`, `"text"`, `"event"`, `1`, `1.5`, `true`, `false`, `null`, `method`, `url`, `at`, `["a", "b"]`, `{"push": "pushed"}`, `extra`,
}

// indexedTest is an index into has(), which CEL takes for another path of has().
var indexedTest = regexp.MustCompile(`\(has\([^)]*\)\)+\[`)

func expression(t *rapid.T, depth int) string {
	sub := func() string {
		if depth > 0 && rapid.Bool().Draw(t, "deeper") {
			return "(" + expression(t, depth-1) + ")"
		}
		return rapid.SampledFrom(operands).Draw(t, "operand")
	}
	switch rapid.IntRange(0, 9).Draw(t, "form") {
	case 0:
		return sub()
	case 1:
		return sub() + rapid.SampledFrom([]string{" == ", " != ", " && ", " || ", " + ", " > ", " < ", " >= ", " <= ", " in "}).Draw(t, "operator") + sub()
	case 2:
		return "!" + sub()
	case 3:
		return sub() + " ? " + sub() + " : " + sub()
	case 4:
		return rapid.SampledFrom([]string{"has(issue.id)", "has(issue.none)", "has(issue.missing)", "has(issue.missing.x)", "has(nothing.x)", "has(issue.id.x)", "has(body.issue)", "has(headers.a)", "has(issue.none.x)", "has(list.x)", "has(item.path)"}).Draw(t, "has")
	case 5:
		return rapid.SampledFrom([]string{"string", "size", "unixMicros"}).Draw(t, "function") + "(" + sub() + ")"
	case 6:
		return sub() + "." + rapid.SampledFrom([]string{"startsWith", "endsWith", "contains"}).Draw(t, "method") + "(" + sub() + ")"
	case 7:
		return `{"push": "pushed", "event": 1, "text": true}[` + sub() + "]"
	case 8:
		return sub() + ` in ["push", "text"]`
	}
	return sub() + "[" + sub() + "]"
}

const differential = `{"issue":{"id":9223372036854775001,"big":123456789012345678901234,"n":1.5,"empty":"","none":null,"yes":true,"title":"text"},
	"list":[{"a":"b"},2,"push"],"at":"2026-11-23T10:00:00.5Z","negative":-0,"zero":0}`

func show(v value) string {
	if v.kind == absent {
		return "absent"
	}
	v.s = v.text() // a number keeps how it was written, which is nobody's business here
	r := v.ref()
	if err, ok := r.Value().(error); ok {
		return fmt.Sprintf("absent (%v)", err)[:6]
	}
	return fmt.Sprintf("%s %v", r.Type().TypeName(), Native(r))
}

// TestDirectEvaluationDoesWhatCELDoes generates expressions and evaluates each in three ways.
func TestDirectEvaluationDoesWhatCELDoes(t *testing.T) {
	doc, err := jsonvalue.Parse([]byte(differential))
	if err != nil {
		t.Fatal(err)
	}
	tree := doc.Root().Tree()
	item := map[string]any{"path": "a/b"}
	direct := 0
	rapid.Check(t, func(t *rapid.T) {
		src := expression(t, 3)
		if indexedTest.MatchString(src) {
			return
		}
		fast, err := compile([]string{src}, false)
		if err != nil {
			return
		}
		slow, err := compile([]string{src}, true)
		if err != nil {
			return // CEL does not plan an index into the result of has()
		}
		if fast.links[0].direct != nil {
			direct++
		}
		in := func(body any) *Input {
			return &Input{Body: body, Item: item, Headers: FieldMap{"x-event": "push"}, Query: FieldMap{"event": "push"}, Method: "POST", URL: "/x", Vars: map[string]string{"extra": "text"}}
		}
		want := show(slow.links[0].eval(in(tree)))
		for name, body := range map[string]any{"document": doc, "tree": tree} {
			if got := show(fast.links[0].eval(in(body))); got != want {
				t.Fatalf("%s over a %s: %q, CEL says %q", src, name, got, want)
			}
		}
	})
	if direct == 0 {
		t.Error("nothing was evaluated directly")
	}
}
