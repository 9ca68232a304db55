package extract

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds how deep elements may be nested; what is deeper keeps its text and loses its tags.
const maxDepth = 256

// storageToHTML turns Confluence's storage format into HTML. It is XHTML with macros in the ac: and ri: namespaces, whose
// text stands in CDATA sections that an HTML parser takes for comments: https://confluence.atlassian.com/doc/confluence-storage-format-790796544.html
func storageToHTML(src string) (string, error) {
	dec := xml.NewDecoder(strings.NewReader(`<root xmlns:ac="ac" xmlns:ri="ri">` + src + `</root>`))
	dec.Strict = false
	dec.Entity = xml.HTMLEntity
	// Not xml.HTMLAutoClose: it names "link", and the decoder would take <ac:link> for it and stumble over its end.
	dec.AutoClose = []string{"br", "hr", "img", "col", "input"}
	w := &storageWriter{}
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// Not well-formed: what is left is kept as text rather than lost.
			rest := src[min(len(src), max(0, int(dec.InputOffset())-len(`<root xmlns:ac="ac" xmlns:ri="ri">`))):]
			w.text(rest)
			break
		}
		w.token(tok)
	}
	for len(w.open) > 0 {
		w.end()
	}
	return w.b.String(), nil
}

type storageWriter struct {
	b    strings.Builder
	open []string // closing tag of each open element; "" if it has none
}

func (w *storageWriter) token(tok xml.Token) {
	switch t := tok.(type) {
	case xml.StartElement:
		w.start(t)
	case xml.EndElement:
		w.end()
	case xml.CharData:
		w.text(string(t))
	}
}

func (w *storageWriter) text(s string) {
	_ = xml.EscapeText(&w.b, []byte(s))
}

func (w *storageWriter) start(t xml.StartElement) {
	name := t.Name.Local
	if t.Name.Space != "" {
		name = t.Name.Space + ":" + name
	}
	tag, closing := "", ""
	switch {
	case len(w.open) >= maxDepth, name == "root":
	case name == "ac:plain-text-body":
		tag, closing = "<pre><code>", "</code></pre>"
	case name == "ac:parameter" && attr(t, "name") == "title":
		tag, closing = "<p><strong>", "</strong></p>"
	case name == "ac:parameter":
		tag, closing = "<span>", " </span>"
	case name == "ri:page", name == "ri:attachment", name == "ri:blog-post":
		// A link without a text of its own shows the title of its target.
		tag = "<span>" + escape(attr(t, "content-title")+attr(t, "filename")) + " </span>"
	case name == "ri:url":
		tag = "<span>" + escape(attr(t, "value")) + " </span>"
	case name == "img", name == "ac:image":
		tag, closing = "<span>"+escape(attr(t, "alt"))+" ", "</span>"
	case name == "time":
		tag, closing = "<span>"+escape(attr(t, "datetime")), "</span>"
	case inlineMacros[name]:
		tag, closing = "<span>", "</span>"
	case strings.Contains(name, ":"):
		tag, closing = "<div>", "</div>"
	case htmlTags[name]:
		tag, closing = "<"+name, "</"+name+">"
		if href := attr(t, "href"); name == "a" && href != "" {
			tag += ` href="` + escape(href) + `"`
		}
		tag += ">"
		if voidTags[name] {
			closing = ""
		}
	default:
		tag, closing = "<span>", "</span>"
	}
	w.b.WriteString(tag)
	w.open = append(w.open, closing)
}

func (w *storageWriter) end() {
	if len(w.open) == 0 {
		return
	}
	w.b.WriteString(w.open[len(w.open)-1])
	w.open = w.open[:len(w.open)-1]
}

func attr(t xml.StartElement, local string) string {
	for _, a := range t.Attr {
		if a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return fmt.Sprintf("%q", s)
	}
	return b.String()
}

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(names) {
		m[n] = true
	}
	return m
}

// htmlTags are the elements that storage format shares with HTML.
var htmlTags = set("p h1 h2 h3 h4 h5 h6 ul ol li table thead tbody tr th td a strong b em i u s code pre blockquote br hr div span sub sup del")

// inlineMacros stand inside lines.
var inlineMacros = set("ac:link ac:link-body ac:plain-text-link-body ac:inline-comment-marker ac:emoticon ac:placeholder ri:user ri:space")

var voidTags = set("br hr")
