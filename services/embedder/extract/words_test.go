package extract

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/connector"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A word of a generated document is a number that occurs nowhere else.
type words struct {
	n   int
	all []string
}

func (w *words) next() string {
	w.n++
	s := fmt.Sprintf("word%dx", w.n)
	w.all = append(w.all, s)
	return s
}

// inline is a text with things that stand inside lines.
func inline(t *rapid.T, w *words, depth int) string {
	kind := rapid.IntRange(0, 9).Draw(t, "inline")
	if depth <= 0 {
		kind = 0
	}
	in := func() string { return inline(t, w, depth-1) }
	switch kind {
	case 1:
		return "<b>" + in() + "</b> " + in()
	case 2:
		return `<a href="https://x/y?a=b&amp;c=d">` + in() + "</a>"
	case 3:
		return "<code>" + w.next() + "</code>"
	case 4:
		return w.next() + "<br/>" + in()
	case 5:
		return "<em>" + w.next() + "</em>" + w.next()
	case 6:
		return w.next() + " &amp; &lt;" + w.next() + "&gt;"
	case 7:
		return `<span style="color:red">` + in() + "</span>"
	case 8:
		return `<img src="x.png" alt="` + w.next() + `"/>`
	case 9:
		return "<sup>" + w.next() + "</sup>"
	}
	return w.next()
}

// block is a piece of a page, with or without Confluence's own elements.
func block(t *rapid.T, w *words, depth int, storage bool) string {
	most := 9
	if storage {
		most = 15
	}
	kind := rapid.IntRange(0, most).Draw(t, "block")
	if depth <= 0 {
		kind = 0
	}
	in := func() string { return block(t, w, depth-1, storage) }
	line := func() string { return inline(t, w, 2) }
	switch kind {
	case 1:
		return "<h2>" + line() + "</h2>" + in()
	case 2:
		return "<ul><li>" + line() + "</li><li>" + in() + "<ol><li>" + line() + "</li></ol></li></ul>"
	case 3:
		return "<table><thead><tr><th>" + line() + "</th><th>" + line() + "</th></tr></thead><tbody><tr><td>" + line() + "</td><td>" + in() + "</td></tr></tbody></table>"
	case 4:
		return "<table><tr><td colspan=\"2\">" + line() + "</td></tr><tr><td>" + line() + "</td><td><table><tr><td>" + line() + "</td></tr></table></td></tr></table>"
	case 5:
		return "<pre><code>" + w.next() + " &lt; " + w.next() + "\n\t" + w.next() + "</code></pre>"
	case 6:
		return "<blockquote>" + in() + "</blockquote>"
	case 7:
		return "<div><section><article>" + in() + in() + "</article></section></div>"
	case 8:
		return "<details><summary>" + line() + "</summary>" + in() + "</details>"
	case 9:
		return "<dl><dt>" + line() + "</dt><dd>" + line() + "</dd></dl>"
	case 10:
		return `<ac:structured-macro ac:name="code"><ac:parameter ac:name="title">` + w.next() + `</ac:parameter><ac:plain-text-body><![CDATA[if ` + w.next() + ` < 3 && <x> { ` + w.next() + " }]]></ac:plain-text-body></ac:structured-macro>"
	case 11:
		return `<p>` + line() + ` <ac:link><ri:page ri:content-title="` + w.next() + `"/><ac:plain-text-link-body><![CDATA[` + w.next() + `]]></ac:plain-text-link-body></ac:link></p>`
	case 12:
		return `<ac:structured-macro ac:name="panel"><ac:rich-text-body>` + in() + `</ac:rich-text-body></ac:structured-macro>`
	case 13:
		return `<ac:task-list><ac:task><ac:task-status>complete</ac:task-status><ac:task-body>` + line() + `</ac:task-body></ac:task></ac:task-list>`
	case 14:
		return `<ac:layout><ac:layout-section ac:type="two_equal"><ac:layout-cell>` + in() + `</ac:layout-cell><ac:layout-cell>` + in() + `</ac:layout-cell></ac:layout-section></ac:layout>`
	case 15:
		return `<p><ac:link><ri:attachment ri:filename="` + w.next() + `.pdf"/></ac:link><ac:link><ri:page ri:content-title="t"/><ac:link-body>` + line() + `</ac:link-body></ac:link></p>`
	}
	return "<p>" + line() + "</p>"
}

func TestEveryWordOfAPageIsInItsText(t *testing.T) {
	for _, format := range []Format{FormatHTML, FormatConfluenceStorage} {
		t.Run(string(format), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := &words{}
				page := ""
				for range rapid.IntRange(1, 4).Draw(t, "blocks") {
					page += block(t, w, 3, format == FormatConfluenceStorage)
				}
				got, err := Markdown(format, []byte(page))
				if err != nil {
					t.Fatal(err)
				}
				for _, word := range w.all {
					if !strings.Contains(strings.ReplaceAll(got, `\`, ""), word) {
						t.Fatalf("%s is lost\npage: %s\ntext: %s", word, page, got)
					}
				}
			})
		})
	}
}

// Markdown is kept as it is, so that nothing can be lost.
func TestMarkdownStaysAsItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[ -~\n]{0,200}`).Draw(t, "text")
		if got, err := Markdown(FormatMarkdown, []byte(s)); err != nil || got != s {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}

func TestPagesReadAsTheyDid(t *testing.T) {
	files, err := filepath.Glob("testdata/*.*ml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		format := FormatHTML
		if strings.HasSuffix(file, ".storage.xml") {
			format = FormatConfluenceStorage
		}
		got, err := Markdown(format, raw)
		if err != nil {
			t.Fatal(err)
		}
		golden := file + ".md"
		if *update {
			if err := os.WriteFile(golden, []byte(got+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got+"\n" != string(want) {
			t.Errorf("%s reads\n%s\ninstead of\n%s", file, got, want)
		}
	}
}

func TestPartsFollowTheirDocumentAndABadOneIsLeftOut(t *testing.T) {
	var x Extractor
	defer func() { _ = x.Close() }()
	text, problems, err := x.Document(context.Background(), connector.Document{
		Content: []byte("<p>main " + html.EscapeString("<words>") + "</p>"), Format: FormatHTML,
		Parts: []connector.Part{{Title: "Comment\nby Ann", Content: []byte("a *remark*"), Format: FormatMarkdown}, {Title: "Attachment x.docx", Content: []byte("no archive"), Format: connector.FormatDOCX}, {Content: []byte("last"), Format: FormatPlain}},
	})
	if err != nil || len(problems) != 1 || !errors.Is(problems[0], ErrUnreadable) {
		t.Fatalf("%v, %v", problems, err)
	}
	for _, want := range []string{`main &lt;words&gt;`, "\n\n## Comment by Ann\n\na *remark*", "## Attachment x.docx", "last"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if _, _, err := x.Document(context.Background(), connector.Document{Content: []byte("x"), Format: connector.FormatDOCX}); !errors.Is(err, ErrUnreadable) {
		t.Errorf("a document that cannot be read: %v", err)
	}
}
