package docx

import (
	"archive/zip"
	"bytes"
	"errors"
	"strings"
	"testing"
)

func file(t testing.TB, parts map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range parts {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	head = `<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:r="r"><w:body>`
	tail = `</w:body></w:document>`
)

func p(text string) string {
	return `<w:p><w:r><w:t xml:space="preserve">` + text + `</w:t></w:r></w:p>`
}

func TestNoTextOfAWordFileIsLost(t *testing.T) {
	doc := head +
		`<w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Set </w:t></w:r><w:r><w:t>up</w:t></w:r></w:p>` +
		p("caf&#233; &amp; more") +
		`<w:p><w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="3"/></w:numPr></w:pPr><w:r><w:t>a point</w:t></w:r></w:p>` +
		`<w:p><w:r><w:t>see </w:t></w:r><w:hyperlink r:id="rId7"><w:r><w:t>the page</w:t></w:r></w:hyperlink><w:r><w:br/><w:t>next line</w:t></w:r></w:p>` +
		`<w:tbl><w:tr><w:tc>` + p("Key") + `</w:tc><w:tc>` + p("Value") + `</w:tc></w:tr><w:tr><w:tc>` + p("port") + `</w:tc><w:tc>` + p("80|81") + p("or more") + `<w:tbl><w:tr><w:tc>` + p("inner") + `</w:tc></w:tr></w:tbl></w:tc></w:tr></w:tbl>` +
		`<w:p><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins></w:p>` +
		`<w:p><w:r><w:pict><w:txbxContent>` + p("boxed") + `</w:txbxContent></w:pict></w:r></w:p>` + tail
	got, err := Markdown(file(t, map[string]string{
		"word/document.xml": doc, "word/footnotes.xml": `<w:footnotes xmlns:w="w"><w:footnote>` + p("a note") + `</w:footnote></w:footnotes>`,
		"word/header1.xml":             `<w:hdr xmlns:w="w">` + p("the header") + `</w:hdr>`,
		"word/_rels/document.xml.rels": `<Relationships><Relationship Id="rId7" Target="https://x/y" TargetMode="External"/></Relationships>`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := "## Set up\n\ncafé & more\n\n  - a point\n\nsee [the page](https://x/y)\nnext line\n\n| Key | Value |\n| --- | --- |\n| port | 80\\|81 or more inner |\n\ninserted\n\nboxed\n\nthe header\n\na note"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWhatIsNoWordFileIsRefused(t *testing.T) {
	bomb := file(t, map[string]string{"word/document.xml": head + p(strings.Repeat("a", 70<<20)) + tail})
	for name, raw := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "another archive": file(t, map[string]string{"a.txt": "x"}), "half a file": file(t, map[string]string{"word/document.xml": head})[:40],
		"broken XML": file(t, map[string]string{"word/document.xml": head + "<w:p <"}), "a bomb": bomb,
		"too deep": file(t, map[string]string{"word/document.xml": head + strings.Repeat("<w:sdt>", 1000)}),
	} {
		if got, err := Markdown(raw); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %.40q, %v", name, got, err)
		}
	}
}

func FuzzMarkdown(f *testing.F) {
	f.Add(head + p("x") + tail)
	f.Add(head + "<w:tbl><w:tc></w:tbl><w:tr>" + tail)
	f.Fuzz(func(t *testing.T, doc string) {
		_, _ = Markdown(file(t, map[string]string{"word/document.xml": doc}))
	})
}
