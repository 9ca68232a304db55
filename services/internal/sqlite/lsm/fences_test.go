package lsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func FuzzDecodeFences(f *testing.F) {
	for _, keys := range [][]string{nil, {""}, {"a", "b\x00", "ü"}} {
		fs := fencesOf(keys)
		f.Add(fs.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, err := decodeFences(b)
		if err != nil {
			return
		}
		_ = fs.page("key")
		encoded := fs.encode()
		again, err := decodeFences(encoded)
		if err != nil || again.count != fs.count || !bytes.Equal(again.encode(), encoded) {
			t.Fatalf("%+v became %+v, %v", fs, again, err)
		}
	})
}

func fencesOf(keys []string) fences {
	var fs fences
	for _, k := range keys {
		fs.add([]byte(k))
	}
	return fs
}

func TestFencesFindTheLastPageThatDoesNotBeginAboveAKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.SampledFrom([]rune("ab\x00")), 0, 7, -1)
		keys := rapid.SliceOfNDistinct(word, 0, 120, rapid.ID).Draw(t, "keys")
		slices.Sort(keys)
		fs := fencesOf(keys)
		fs.trim()
		again, err := decodeFences(fs.encode())
		if err != nil || again.count != len(keys) {
			t.Fatalf("%d keys became %d, %v", len(keys), again.count, err)
		}
		for _, k := range append(slices.Clone(keys), rapid.SliceOfN(word, 1, 20).Draw(t, "others")...) {
			at, there := slices.BinarySearch(keys, k)
			want := at
			if !there {
				want--
			}
			if got, decoded := fs.page(k), again.page(k); got != want || decoded != want {
				t.Fatalf("%q in %q: page %d and %d, not %d", k, keys, got, decoded, want)
			}
		}
	})
}

// BenchmarkFences looks for keys here and there among those of a run of ten million rows.
func BenchmarkFences(b *testing.B) {
	const pages = 400_000
	var fs fences
	for i := range pages {
		fs.add(fmt.Appendf(nil, "source/page-%07d", 25*i))
	}
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprintf("source/page-%07d", i*2654435761%(25*pages))
	}
	i := 0
	for b.Loop() {
		if fs.page(keys[i%len(keys)]) < 0 {
			b.Fatal("no page")
		}
		i++
	}
}
