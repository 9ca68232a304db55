// Package extract turns what sources deliver (HTML, Confluence storage format, Markdown, plain text) into Markdown text
// without losing words. It never fails on bad input: what cannot be parsed is kept as text.
package extract

import (
	"fmt"
	"strings"

	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/base"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/commonmark"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/table"

	"github.com/hookmesh/hookmesh/services/connector"
)

// Format says how content is to be read.
type Format = connector.Format

// The formats.
const (
	FormatMarkdown          = connector.FormatMarkdown
	FormatHTML              = connector.FormatHTML
	FormatConfluenceStorage = connector.FormatConfluenceStorage
	FormatPlain             = connector.FormatPlain
)

// Markdown returns the content as Markdown in valid UTF-8, with Unix line ends and without NULs.
func Markdown(format Format, content []byte) (string, error) {
	text := clean(content)
	switch format {
	case FormatMarkdown, "":
		return text, nil
	case FormatPlain:
		return text, nil
	case FormatHTML:
		return fromHTML(text)
	case FormatConfluenceStorage:
		html, err := storageToHTML(text)
		if err != nil {
			return "", err
		}
		return fromHTML(html)
	}
	return "", fmt.Errorf("extract text: unknown format %q", format)
}

// clean makes bytes safe to handle as text.
func clean(content []byte) string {
	s := strings.ToValidUTF8(string(content), "\uFFFD")
	s = strings.TrimPrefix(s, "\uFEFF")
	return strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x00", "").Replace(s)
}

// fromHTML converts a page or fragment. Tables become Markdown tables; scripts and styles are no text.
func fromHTML(html string) (string, error) {
	conv := converter.NewConverter(converter.WithPlugins(base.NewBasePlugin(), commonmark.NewCommonmarkPlugin(), table.NewTablePlugin()))
	md, err := conv.ConvertString(html)
	if err != nil {
		return "", fmt.Errorf("extract text from HTML: %w", err)
	}
	return strings.TrimSpace(md), nil
}
