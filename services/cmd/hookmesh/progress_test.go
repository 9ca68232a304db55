package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/wiring"
)

func TestAMoveSaysEveryFewSecondsHowFarItIs(t *testing.T) {
	now := time.Unix(0, 0)
	var out strings.Builder
	p := newProgress(&out, func() time.Time { return now })
	for _, at := range []struct {
		second float64
		wiring.Progress
	}{
		{0, wiring.Progress{Doing: "checking the archive"}},
		{1, wiring.Progress{Doing: "embedder/chunks", Done: 500, Total: 10_000}},
		{4, wiring.Progress{Doing: "embedder/chunks", Done: 3000, Total: 10_000}},
		{5, wiring.Progress{Doing: "embedder/chunks", Done: 4000, Total: 10_000}},
		{6, wiring.Progress{Doing: "embedder/chunks", Done: 5000, Total: 10_000}},
		{10, wiring.Progress{Doing: "indexing", Total: 100}},
		{20, wiring.Progress{Doing: "indexing", Done: 50, Total: 100}},
		{26, wiring.Progress{Doing: "documents", Done: 60}},
	} {
		now = time.Unix(0, 0).Add(time.Duration(at.second * float64(time.Second)))
		p.report(at.Progress)
	}
	want := `checking the archive
embedder/chunks: 4000 of 10000 rows, 800/s, 8s left
indexing
indexing: 50 of 100 rows, 5/s, 10s left
documents: 60 rows, 10/s
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}
