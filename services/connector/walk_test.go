package connector_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/connector"
)

// Whatever the pages and wherever it crashes, a walk goes on where it was, and the next one begins before this one began.
func TestAWalkLosesNothingAndEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := make([]string, rapid.IntRange(1, 4).Draw(t, "parts"))
		began := time.Unix(rapid.Int64Range(1, 4e9).Draw(t, "began"), 0).UTC()
		cursor, steps := "", 0
		for part := range parts {
			pages := rapid.IntRange(1, 3).Draw(t, "pages")
			for page := range pages {
				w, err := connector.ParseWalk(cursor, parts...)
				if err != nil || w.Part != part || (w.Page == "") != (page == 0) {
					t.Fatalf("part %d page %d: %+v, %v", part, page, w, err)
				}
				token := ""
				if page+1 < pages {
					token = "more"
				}
				next, more := w.Step(began.Add(time.Duration(steps)*time.Hour), token, len(parts))
				if last := part == len(parts)-1 && token == ""; more == last {
					t.Fatalf("more is %v", more)
				}
				cursor = next.Cursor()
				steps++
			}
		}
		w, err := connector.ParseWalk(cursor, parts...)
		if err != nil || !w.Since.Equal(began.Add(-connector.Overlap)) || w.Page != "" || w.Part != 0 {
			t.Fatalf("%+v, %v", w, err)
		}
		if _, err := connector.ParseWalk(cursor, append(parts, "added")...); !errors.Is(err, connector.ErrCursor) {
			t.Fatal("a source with another scope goes on from where the old one was")
		}
	})
}

func FuzzParseWalk(f *testing.F) {
	f.Add(`{"since":"2026-01-01T00:00:00Z","part":1}`)
	f.Fuzz(func(t *testing.T, cursor string) {
		w, err := connector.ParseWalk(cursor, "a", "b")
		if err == nil && (w.Part < 0 || w.Part > 1) {
			t.Fatal(w.Part)
		}
	})
}
