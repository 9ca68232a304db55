// Package files says which files of a repository, folder or drive are documents, and how they are read.
package files

import (
	"fmt"
	"path"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
)

// formats by a name's ending, in lower case.
var formats = map[string]connector.Format{
	".md": connector.FormatMarkdown, ".markdown": connector.FormatMarkdown, ".mdx": connector.FormatMarkdown, ".mkd": connector.FormatMarkdown,
	".txt": connector.FormatPlain, ".text": connector.FormatPlain, ".rst": connector.FormatPlain, ".adoc": connector.FormatPlain, ".org": connector.FormatPlain,
	".html": connector.FormatHTML, ".htm": connector.FormatHTML, ".xhtml": connector.FormatHTML,
	".pdf": connector.FormatPDF, ".docx": connector.FormatDOCX,
}

// FormatOf is the format of a file by its name; false if it is none that holds text for people.
func FormatOf(name string) (connector.Format, bool) {
	f, ok := formats[strings.ToLower(path.Ext(name))]
	return f, ok
}

// Filter says which paths are documents.
type Filter struct{ patterns []string }

// NewFilter compiles patterns over slash-separated paths: * and ? stay within a name, ** spans folders. No pattern: every file
// whose format is known.
func NewFilter(patterns []string) (Filter, error) {
	for _, p := range patterns {
		for part := range strings.SplitSeq(p, "/") {
			if _, err := path.Match(part, ""); err != nil {
				return Filter{}, fmt.Errorf("include: %q is no pattern", p)
			}
		}
	}
	return Filter{patterns}, nil
}

// Match says whether the file is a document.
func (f Filter) Match(name string) bool {
	if len(f.patterns) == 0 {
		_, ok := FormatOf(name)
		return ok
	}
	for _, p := range f.patterns {
		if match(strings.Split(p, "/"), strings.Split(name, "/")) {
			return true
		}
	}
	return false
}

// Format is the format of a document: text if its name tells nothing.
func (f Filter) Format(name string) connector.Format {
	if format, ok := FormatOf(name); ok {
		return format
	}
	return connector.FormatPlain
}

func match(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := range len(name) + 1 {
				if match(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}
