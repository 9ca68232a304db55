package files

import "testing"

func TestPatternsChooseFiles(t *testing.T) {
	for _, tt := range []struct {
		patterns []string
		name     string
		want     bool
	}{
		{nil, "README.MD", true}, {nil, "a/b/manual.pdf", true}, {nil, "main.go", false}, {nil, "LICENSE", false},
		{[]string{"docs/**/*.md"}, "docs/a.md", true}, {[]string{"docs/**/*.md"}, "docs/x/y/a.md", true}, {[]string{"docs/**/*.md"}, "a.md", false},
		{[]string{"**"}, "any/thing", true}, {[]string{"*.md"}, "x/a.md", false}, {[]string{"a.md", "LICENSE"}, "LICENSE", true}, {[]string{"docs/?.md"}, "docs/ab.md", false},
	} {
		f, err := NewFilter(tt.patterns)
		if err != nil || f.Match(tt.name) != tt.want {
			t.Errorf("%v over %s: %v, %v", tt.patterns, tt.name, f.Match(tt.name), err)
		}
	}
	if _, err := NewFilter([]string{"a[/x"}); err == nil {
		t.Error("a broken pattern was taken")
	}
}
