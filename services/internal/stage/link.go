package stage

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// keptEpochs is how many epochs of a partition above are remembered.
const keptEpochs = 8

// nextEpoch names a numbering that nobody has used: "line/claim/random", where line is the store's first epoch of the
// partition. Claims only say which epochs of a line are old: a store that went back counts some of them again.
func nextEpoch(epoch string, claim int64) string {
	line, _ := splitEpoch(epoch)
	return line + "/" + strconv.FormatInt(claim, 10) + "/" + rand.Text()
}

// splitEpoch returns the line of an epoch and the claim that began it; 0: the store's first, or one of a version of hookmesh that had no others.
func splitEpoch(epoch string) (line string, claim int64) {
	line, rest, _ := strings.Cut(epoch, "/")
	number, _, _ := strings.Cut(rest, "/")
	claim, _ = strconv.ParseInt(number, 10, 64)
	return line, claim
}

// passLink notes that a link was passed, and forgets the oldest epochs of its line.
func passLink(links map[string]int64, epoch string, seq int64) {
	if _, known := links[epoch]; !known {
		line, _ := splitEpoch(epoch)
		claim := func(epoch string) int64 { _, n := splitEpoch(epoch); return n }
		same := slices.DeleteFunc(slices.Collect(maps.Keys(links)), func(other string) bool { l, _ := splitEpoch(other); return l != line })
		slices.SortFunc(same, func(a, b string) int { return cmp.Or(cmp.Compare(claim(b), claim(a)), strings.Compare(a, b)) })
		for _, old := range same[min(len(same), keptEpochs-1):] {
			delete(links, old)
		}
	}
	links[epoch] = seq
}

// Behind says whether the store of a stage, whose positions are given, may be older than what it sent: whether a stage below has passed a link that
// they do not account for. Links that are in known as well do not count. An epoch is in the store before anything of it is sent, so what
// was sent is of the epoch in the store, or of one whose claim was earlier. It tells of a store that was not used since it went back: once
// it has been claimed a few times, old epochs look like its own.
func Behind(positions []Position, links, known map[string]int64) bool {
	newest := map[string]Position{} // by line
	for _, p := range positions {
		line, _ := splitEpoch(p.Epoch)
		newest[line] = p
	}
	for epoch, seq := range links {
		if seq <= known[epoch] {
			continue
		}
		line, claim := splitEpoch(epoch)
		p, found := newest[line]
		_, last := splitEpoch(p.Epoch)
		if !found || seq > p.Seq || (epoch != p.Epoch && claim >= last) {
			return true
		}
	}
	return false
}

// formatLink writes a link: the epoch of the producing partition and the number of the output in it.
func formatLink(epoch string, seq int64) []byte {
	b := make([]byte, 0, len(epoch)+21)
	b = append(b, epoch...)
	b = append(b, ':')
	return strconv.AppendInt(b, seq, 10)
}

// link reads a record's link; ok is false if it has none (it came from a gateway, say) or one that cannot be read.
func link(headers []Header) (epoch string, seq int64, ok bool) {
	for _, h := range headers {
		if h.Key != LinkHeader {
			continue
		}
		i := bytes.LastIndexByte(h.Value, ':')
		if i <= 0 {
			return "", 0, false
		}
		n, err := strconv.ParseInt(string(h.Value[i+1:]), 10, 64)
		if err != nil || n <= 0 {
			return "", 0, false
		}
		return string(h.Value[:i]), n, true
	}
	return "", 0, false
}
