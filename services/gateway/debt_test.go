package gateway

import (
	"fmt"
	"testing"
	"time"
)

func TestTheLedgerNamesDocumentsWhileTheyAreFew(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	owe := func(document string, at int) debt {
		return debt{source: "s", reason: reasonStale, document: document, event: "e", at: start.Add(time.Duration(at) * time.Second)}
	}
	documents := func(n int) (out []debt) {
		for i := range n {
			out = append(out, owe(fmt.Sprint("d", i), i))
		}
		return out
	}
	for name, tt := range map[string]struct {
		debts []debt
		want  int
		whole bool
	}{
		"one document, told twice":             {[]debt{owe("a", 1), owe("a", 0)}, 1, false},
		"as many as are named":                 {documents(maxNamed), maxNamed, false},
		"one more is a debt of the source":     {documents(maxNamed + 1), 1, true},
		"the source stays the source":          {append([]debt{owe("", 3)}, documents(2)...), 1, true},
		"a document before it is part of it":   {append(documents(2), owe("", 3)), 1, true},
		"one that is named already fits":       {append(documents(maxNamed), owe("d3", 0)), maxNamed, false},
		"another reason is another debt":       {[]debt{owe("a", 0), {source: "s", reason: reasonShed, at: start}}, 2, false},
		"so is another source":                 {[]debt{owe("a", 0), {source: "t", reason: reasonStale, document: "a", at: start}}, 2, false},
		"how long it is owed is not forgotten": {[]debt{owe("", 9), owe("a", 0)}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			for _, d := range tt.debts {
				l.add(d)
			}
			got := l.take()
			if len(got) != tt.want {
				t.Fatalf("owed are %v", got)
			}
			first, whole := got[0].at, false
			for _, d := range got { // in no order
				first = earlier(first, d.at)
				whole = whole || d.reason == reasonStale && d.document == ""
			}
			if !first.Equal(start) || tt.whole != whole {
				t.Errorf("owed are %v", got)
			}
			if len(l.take()) != 0 {
				t.Error("what was taken is owed still")
			}
		})
	}
}
