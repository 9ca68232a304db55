package stage

import (
	"fmt"
	"testing"
)

func TestOnlyTheNewestEpochsOfALineAreKept(t *testing.T) {
	links := map[string]int64{"line": 3, "other": 9, "other/5/x": 1}
	last := "line"
	for claim := range int64(30) {
		last = nextEpoch(last, claim+1)
		passLink(links, last, claim)
		passLink(links, last, claim+100)
	}
	kept := 0
	for epoch, seq := range links {
		line, claim := splitEpoch(epoch)
		if line != "line" {
			continue
		}
		kept++
		if claim <= 30-keptEpochs || seq != claim+99 {
			t.Errorf("%s: %d", epoch, seq)
		}
	}
	if kept != keptEpochs || links["other"] != 9 || links["other/5/x"] != 1 {
		t.Errorf("%d kept: %v", kept, links)
	}
	epoch, seq, ok := link([]Header{{Key: LinkHeader, Value: formatLink(last, 12)}})
	if epoch != last || seq != 12 || !ok {
		t.Errorf("%s, %d, %v", epoch, seq, ok)
	}
}

func TestNoTwoOwnersShareAnEpoch(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		epoch := nextEpoch("line/4/some", 5) // as after a restore: the same claim again
		if line, claim := splitEpoch(epoch); seen[epoch] || line != "line" || claim != 5 {
			t.Fatal(fmt.Sprint(epoch, seen))
		}
		seen[epoch] = true
	}
}
