package extract

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestNoTextIsLost(t *testing.T) {
	tests := []struct {
		name   string
		format Format
		in     string
		want   []string
	}{
		{"Markdown stays as it is", FormatMarkdown, "# A\r\n\r\ntext", []string{"# A\n\ntext"}},
		{"HTML headings, lists and links", FormatHTML, `<h2>Set up</h2><ul><li>one</li><li><a href="https://x/y">two</a></li></ul>`, []string{"## Set up", "- one", "[two](https://x/y)"}},
		{"HTML tables", FormatHTML, `<table><tr><th>Key</th><th>Value</th></tr><tr><td>port</td><td>8080</td></tr></table>`, []string{"| Key", "| port", "8080"}},
		{"HTML code", FormatHTML, "<pre><code>a &lt; b\n  c</code></pre>", []string{"a < b\n  c"}},
		{"scripts are no text", FormatHTML, `<script>evil()</script><p>good</p>`, []string{"good"}},
		{"Confluence code macros", FormatConfluenceStorage, `<ac:structured-macro ac:name="code"><ac:parameter ac:name="language">go</ac:parameter><ac:plain-text-body><![CDATA[if a < b && c { run() }]]></ac:plain-text-body></ac:structured-macro>`, []string{"if a < b && c { run() }", "go"}},
		{"Confluence link texts", FormatConfluenceStorage, `<p>See <ac:link><ri:page ri:content-title="Run book"/><ac:plain-text-link-body><![CDATA[the run book]]></ac:plain-text-link-body></ac:link>.</p>`, []string{"Run book", "the run book"}},
		{"Confluence entities and panels", FormatConfluenceStorage, `<ac:structured-macro ac:name="info"><ac:parameter ac:name="title">Mind</ac:parameter><ac:rich-text-body><p>caf&eacute;&nbsp;open</p></ac:rich-text-body></ac:structured-macro>`, []string{"Mind", "café", "open"}},
		{"Confluence tables", FormatConfluenceStorage, `<table><tbody><tr><th>Who</th></tr><tr><td>Ann</td></tr></tbody></table>`, []string{"Who", "Ann"}},
		{"Confluence that is not well-formed", FormatConfluenceStorage, `<p>kept <b>also</p> <p>tail & more`, []string{"kept", "also", "tail", "more"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Markdown(tt.format, []byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in:\n%s", w, got)
				}
			}
			if strings.Contains(got, "evil") {
				t.Errorf("a script became text:\n%s", got)
			}
		})
	}
}

func TestUnknownFormatsAreRefused(t *testing.T) {
	if _, err := Markdown("rtf", nil); err == nil {
		t.Error("no error")
	}
}

// Every word of the input is in the output, whatever the tags around it.
func FuzzConfluence(f *testing.F) {
	f.Add("<p>alpha</p><ac:x><![CDATA[beta]]></ac:x>")
	f.Add("<table><tr><td>a<td>b</table>&copy;")
	f.Add(strings.Repeat("<div>", 500) + "deep")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Markdown(FormatConfluenceStorage, []byte(in))
		if err != nil || !utf8.ValidString(got) {
			t.Fatalf("%v, valid UTF-8: %v", err, utf8.ValidString(got))
		}
		if strings.ContainsAny(in, "<>&") {
			return
		}
		for _, w := range strings.FieldsFunc(in, func(r rune) bool { return !unicode.IsLetter(r) || r > 127 }) {
			if !strings.Contains(got, w) {
				t.Fatalf("word %q of %q is lost in %q", w, in, got)
			}
		}
	})
}

func FuzzHTML(f *testing.F) {
	f.Add("<p>alpha<table><tr><td>x")
	f.Fuzz(func(t *testing.T, in string) {
		if got, err := Markdown(FormatHTML, []byte(in)); err != nil || !utf8.ValidString(got) {
			t.Fatalf("%v, valid UTF-8: %v", err, utf8.ValidString(got))
		}
	})
}
