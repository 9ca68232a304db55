// Package docx reads the text of Word files (Office Open XML, ECMA-376) as Markdown: paragraphs, headings, lists, tables, links,
// notes, headers and footers. It needs no library: a file is a ZIP archive of XML.
package docx

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

const (
	// maxXML bounds one unpacked part of a file, maxAll all of them: a few kilobytes can unpack to gigabytes.
	maxXML = 64 << 20
	maxAll = 128 << 20
	// maxDepth bounds how deep elements are nested.
	maxDepth = 500
)

// ErrBroken: this is no Word file, or it is damaged.
var ErrBroken = errors.New("the DOCX file cannot be read")

// parts that hold text besides the document itself, in the order in which they are read.
var parts = []string{"word/header*.xml", "word/footnotes.xml", "word/endnotes.xml", "word/comments.xml", "word/footer*.xml"}

// Markdown returns the text of a file.
func Markdown(raw []byte) (string, error) {
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBroken, err)
	}
	left := int64(maxAll)
	read := func(f *zip.File) ([]byte, error) {
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBroken, f.Name, err)
		}
		defer func() { _ = r.Close() }()
		limit := min(maxXML, left)
		content, err := io.ReadAll(io.LimitReader(r, limit+1))
		if left -= int64(len(content)); int64(len(content)) > limit {
			return nil, fmt.Errorf("%w: %s is too large", ErrBroken, f.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBroken, f.Name, err)
		}
		return content, nil
	}
	files := map[string]*zip.File{}
	var names []string
	for _, f := range archive.File {
		if files[f.Name] == nil {
			files[f.Name], names = f, append(names, f.Name)
		}
	}
	slices.Sort(names)
	main := files["word/document.xml"]
	if main == nil {
		return "", fmt.Errorf("%w: it has no word/document.xml", ErrBroken)
	}
	links := map[string]string{}
	if rels := files["word/_rels/document.xml.rels"]; rels != nil {
		content, err := read(rels)
		if err != nil {
			return "", err
		}
		links = relations(content)
	}
	content, err := read(main)
	if err != nil {
		return "", err
	}
	out := []string{}
	text, err := render(content, links)
	if err != nil {
		return "", err
	}
	out = append(out, text)
	for _, pattern := range parts {
		for _, name := range names {
			if ok, err := path.Match(pattern, name); err != nil || !ok {
				continue
			}
			if content, err = read(files[name]); err != nil {
				return "", err
			}
			if text, err = render(content, nil); err != nil {
				return "", err
			}
			if strings.TrimSpace(text) != "" && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return strings.TrimSpace(strings.Join(out, "\n\n")), nil
}

// relations are the targets of links, by their ids.
func relations(raw []byte) map[string]string {
	var doc struct {
		Relationship []struct {
			ID     string `xml:"Id,attr"`
			Target string `xml:"Target,attr"`
			Mode   string `xml:"TargetMode,attr"`
		}
	}
	out := map[string]string{}
	if xml.Unmarshal(raw, &doc) == nil {
		for _, r := range doc.Relationship {
			if r.Mode == "External" {
				out[r.ID] = r.Target
			}
		}
	}
	return out
}

// writer turns the elements of WordprocessingML into Markdown.
type writer struct {
	out   strings.Builder
	links map[string]string
	// text is the paragraph under way.
	text  strings.Builder
	style string
	list  bool
	level int
	link  string
	// rows of the table under way; cells of its row; inner tables flow into the cell around them.
	tables int
	rows   [][]string
	cell   []string
	// in says which elements are open.
	in []string
}

func render(raw []byte, links map[string]string) (string, error) {
	dec := xml.NewDecoder(bytes.NewReader(raw))
	dec.Strict = false
	w := &writer{links: links}
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrBroken, err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if w.in = append(w.in, t.Name.Local); len(w.in) > maxDepth {
				return "", fmt.Errorf("%w: its elements are nested too deep", ErrBroken)
			}
			w.start(t)
		case xml.EndElement:
			if len(w.in) > 0 {
				w.in = w.in[:len(w.in)-1]
			}
			w.end(t.Name.Local)
		case xml.CharData:
			if n := len(w.in); n > 0 && (w.in[n-1] == "t" || w.in[n-1] == "delText") && !slices.Contains(w.in, "Fallback") {
				w.text.Write(t)
			}
		}
	}
	w.paragraph()
	return strings.TrimSpace(w.out.String()), nil
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (w *writer) start(t xml.StartElement) {
	switch t.Name.Local {
	case "p":
		if slices.Contains(w.in[:len(w.in)-1], "txbxContent") {
			w.text.WriteString("\n") // a text box inside a paragraph
			return
		}
		w.text.Reset()
		w.style, w.list, w.level = "", false, 0
	case "pStyle":
		w.style = attr(t, "val")
	case "numPr":
		w.list = true
	case "ilvl":
		w.level = int(min(max(digit(attr(t, "val")), 0), 8))
	case "tab":
		if !slices.Contains(w.in, "tabs") {
			w.text.WriteString("\t")
		}
	case "br", "cr":
		w.text.WriteString("\n")
	case "noBreakHyphen":
		w.text.WriteString("-")
	case "hyperlink":
		if w.link = w.links[attr(t, "id")]; w.link != "" {
			w.text.WriteString("[")
		}
	case "docPr":
		if d := attr(t, "descr"); d != "" {
			w.text.WriteString(d) // what a picture shows
		}
	case "tbl":
		if w.tables++; w.tables == 1 {
			w.rows = nil
		}
	case "tr":
		if w.tables == 1 {
			w.rows = append(w.rows, nil)
		}
	case "tc":
		if w.tables == 1 {
			w.cell = nil
		}
	}
}

func digit(s string) int {
	if len(s) == 1 && s[0] >= '0' && s[0] <= '9' {
		return int(s[0] - '0')
	}
	return 0
}

func (w *writer) end(name string) {
	switch name {
	case "p":
		if !slices.Contains(w.in, "txbxContent") {
			w.paragraph()
		}
	case "hyperlink":
		if w.link != "" {
			w.text.WriteString("](" + w.link + ")")
			w.link = ""
		}
	case "tc":
		if w.tables == 1 && len(w.rows) > 0 {
			last := len(w.rows) - 1
			w.rows[last] = append(w.rows[last], strings.Join(w.cell, " "))
		}
	case "tbl":
		if w.tables--; w.tables == 0 {
			w.table()
		}
	}
}

// paragraph writes what was gathered.
func (w *writer) paragraph() {
	text := strings.TrimSpace(w.text.String())
	w.text.Reset()
	if text == "" {
		return
	}
	if w.tables > 0 {
		w.cell = append(w.cell, strings.Join(strings.Fields(text), " "))
		return
	}
	style := strings.ToLower(w.style)
	switch n := strings.TrimPrefix(style, "heading"); {
	case style == "title":
		text = "# " + text
	case n != style && digit(n) > 0:
		text = strings.Repeat("#", min(digit(n), 6)) + " " + text
	case w.list:
		text = strings.Repeat("  ", w.level) + "- " + text
	}
	w.out.WriteString(text + "\n\n")
}

// table writes the rows; the first one is the head, as Markdown wants one.
func (w *writer) table() {
	for i, row := range w.rows {
		cells := make([]string, len(row))
		for j, c := range row {
			cells[j] = strings.ReplaceAll(c, "|", `\|`)
		}
		w.out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
		if i == 0 {
			w.out.WriteString("|" + strings.Repeat(" --- |", max(len(row), 1)) + "\n")
		}
	}
	w.out.WriteString("\n")
	w.rows = nil
}
