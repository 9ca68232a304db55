package chunk

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

const page = `Intro text.

# Install

First do this.

` + "```sh\n# not a heading\nmake up\n```" + `

## On Linux

Use a package.

Usage
-----

Run it.

# Empty
`

func TestChunksFollowTheHeadings(t *testing.T) {
	got := Split("Guide", page, Options{Target: 200})
	var lines []string
	for _, c := range got {
		lines = append(lines, strings.Join(c.HeadingPath, ">")+": "+strings.ReplaceAll(c.Text, "\n", "/"))
	}
	want := []string{": Intro text.", "Install: First do this.//```sh/# not a heading/make up/```", "Install>On Linux: Use a package.", "Install>Usage: Run it.", ": Empty"}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestADocumentWithoutTextIsFoundByItsTitle(t *testing.T) {
	if got := Split("Title only", " \n\n", Options{}); len(got) != 1 || got[0].Text != "Title only" {
		t.Errorf("got %v", got)
	}
	if got := Split("", "", Options{}); got != nil {
		t.Errorf("got %v", got)
	}
}

func paragraphs(rt *rapid.T) []string {
	return rapid.SliceOfN(rapid.StringMatching(`[a-zé]{1,9}( [a-z#.]{1,9}){0,40}`), 1, 30).Draw(rt, "paragraphs")
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

func TestNoTextIsLostAndNoChunkIsTooLarge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := Options{Target: rapid.IntRange(10, 200).Draw(rt, "target")}
		ps := paragraphs(rt)
		var joined strings.Builder
		for _, c := range Split("t", strings.Join(ps, "\n\n"), opts) {
			if n := utf8.RuneCountInString(c.Text); n > 2*opts.Target || n == 0 {
				rt.Fatalf("chunk of %d characters, limit %d", n, 2*opts.Target)
			}
			joined.WriteString(c.Text)
		}
		if squeeze(joined.String()) != squeeze(strings.Join(ps, "")) {
			rt.Fatalf("text changed: %q", joined.String())
		}
	})
}

// The figure behind "only what changed is embedded again".
func TestInsertingAParagraphChangesFewChunks(t *testing.T) {
	changed, runs := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		ps := rapid.SliceOfN(rapid.StringMatching(`[a-z]{3,9}( [a-z]{3,9}){20,60}`), 20, 20).Draw(rt, "paragraphs")
		at := rapid.IntRange(0, len(ps)).Draw(rt, "at")
		before := map[[32]byte]bool{}
		for _, c := range Split("t", strings.Join(ps, "\n\n"), Options{}) {
			before[c.Hash] = true
		}
		edited := append(append(append([]string{}, ps[:at]...), "a new paragraph that somebody wrote today"), ps[at:]...)
		for _, c := range Split("t", strings.Join(edited, "\n\n"), Options{}) {
			if !before[c.Hash] {
				changed++
			}
		}
		runs++
	})
	mean := float64(changed) / float64(runs)
	t.Logf("%.2f chunks on average", mean)
	if mean > 2.5 {
		t.Errorf("inserting a paragraph changes %.2f chunks on average", mean)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("t", page)
	f.Add("", "# \n```\n# x")
	f.Fuzz(func(t *testing.T, title, md string) {
		for i, c := range Split(title, md, Options{}) {
			if c.Ordinal != i || strings.TrimSpace(c.Text) == "" || utf8.RuneCountInString(c.Text) > DefaultMax {
				t.Fatalf("chunk %d: %q", i, c.Text)
			}
		}
	})
}

func BenchmarkSplit5KB(b *testing.B) {
	md := strings.Repeat("## Heading\n\n"+strings.Repeat("Some words that explain it. ", 20)+"\n\n", 9)
	for b.Loop() {
		Split("t", md, Options{})
	}
}
