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

func TestAStoreIsBehindIfItDoesNotAccountForALink(t *testing.T) {
	positions := []Position{{Epoch: "a/3/x", Seq: 20}, {Epoch: "b", Seq: 5}}
	cases := []struct {
		links, known map[string]int64
		behind       bool
	}{
		{nil, nil, false},
		{map[string]int64{"a": 2, "a/2/w": 11, "a/3/x": 20, "b": 5}, nil, false},
		{map[string]int64{"a/3/x": 21}, nil, true}, // it sent more than it knows of
		{map[string]int64{"b": 6}, nil, true},
		{map[string]int64{"a/3/y": 12}, nil, true}, // it was claimed, and then not
		{map[string]int64{"a/4/z": 12}, nil, true},
		{map[string]int64{"a/2/w": 21}, nil, true}, // numbers go on from epoch to epoch
		{map[string]int64{"c/1/v": 1}, nil, true},  // another store
		{map[string]int64{"a/4/z": 12, "c/1/v": 1}, map[string]int64{"a/4/z": 12, "c/1/v": 1}, false},
		{map[string]int64{"a/4/z": 13}, map[string]int64{"a/4/z": 12}, true},
	}
	for _, c := range cases {
		if Behind(positions, c.links, c.known) != c.behind {
			t.Errorf("links %v, known %v: %v", c.links, c.known, !c.behind)
		}
	}
}
