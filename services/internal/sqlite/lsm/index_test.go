package lsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// fileOf is the file of a run of some keys, each with its own name as its value; hash, if there is one, is used instead of the true one.
func fileOf(t testing.TB, keys []string, hash func(string) uint64) *file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.run")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: &Table{}, run: &run{}, out: out, at: headerBytes, stretch: headerBytes, spots: newSpots(path+spotsSuffix, int64(len(keys)))}
	defer w.close()
	for _, k := range keys {
		if err := w.add(&raw{key: []byte(k), value: []byte(k)}); err != nil {
			t.Fatal(err)
		}
	}
	if hash != nil {
		at := headerBytes
		w.spots.close()
		w.spots = newSpots(path+spotsSuffix, int64(len(keys)))
		for _, k := range keys {
			if err := w.spots.add(hash(k), uint32(at/unit)); err != nil {
				t.Fatal(err)
			}
			at = aligned(at + len(appendEntry(nil, &Entry{Key: k, Value: []byte(k)})))
		}
	}
	for done := false; !done; {
		if done, err = w.step(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.write(w.head.encode(), 0); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Some of the sizes take several parts, and the file of spots.
func TestAnIndexHasItsKeysAndHardlyAnyOther(t *testing.T) {
	for _, n := range []int{1, 2, 9, 10, 11, 500, 27_300, 27_310, 100_000} {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("source/page-%08d", 2*i)
		}
		f := fileOf(t, keys, nil)
		if n > 27_306 && f.parts < 2 {
			t.Errorf("%d keys in %d parts", n, f.parts)
		}
		hashes := make([]uint64, n)
		for i, k := range keys {
			hashes[i] = hashOf(k)
		}
		if held := f.index.among(hashes, nil); len(held) != n {
			t.Errorf("%d of %d keys pass", len(held), n)
		}
		f.touch(hashes, f.index.among(hashes, nil))
		passed, vain := 0, 0
		for i, k := range keys {
			e, found, _, err := f.get(k, hashes[i])
			if err != nil || !found || string(e.value) != k {
				t.Fatalf("%s of %d keys is %q, %v, %v", k, n, e.value, found, err)
			}
			other := fmt.Sprintf("source/page-%08d", 2*i+1)
			passed += len(f.index.among([]uint64{hashOf(other)}, nil))
			_, found, looked, err := f.get(other, hashOf(other))
			if vain += looked; err != nil || found {
				t.Fatalf("%s is among %d keys that it is not among: %v", other, n, err)
			}
		}
		if passed > n/30+3 || vain > n/2000+3 {
			t.Errorf("of %d keys that are not there %d pass, and %d entries are looked at", n, passed, vain)
		}
	}
}

// Whoever chooses keys can make them alike to a hash that is known. They are found all the same.
func TestKeysWhoseHashesAreAlikeAreFound(t *testing.T) {
	for _, n := range []int{11, 300, 30_000} { // of the last, one of two parts cannot hold all
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("%08d", i)
		}
		alike := func(string) uint64 { return 42 }
		f := fileOf(t, keys, alike)
		for i := 0; i < n; i += 1 + n/50 {
			if e, found, _, err := f.get(keys[i], 42); err != nil || !found || string(e.value) != keys[i] {
				t.Fatalf("key %d of %d is %q, %v, %v", i, n, e.value, found, err)
			}
		}
		for _, k := range []string{"", "00000003x", "9"} {
			if _, found, _, err := f.get(k, 42); err != nil || found {
				t.Errorf("%q is among %d keys that it is not among: %v", k, n, err)
			}
		}
	}
}

func TestASearchFindsWhatIsAboveAKey(t *testing.T) {
	keys := make([]string, 3000)
	for i := range keys {
		keys[i] = fmt.Sprintf("%05d", 10*i)
	}
	f := fileOf(t, keys, nil)
	for range 300 {
		key := fmt.Sprintf("%05d", rand.IntN(30_100))
		want, _ := slices.BinarySearch(keys, key)
		at, err := f.seek(key)
		passed := 0
		for err == nil && at < f.end {
			var e raw
			if e, at, err = f.entry(at); err != nil || string(e.key) >= key {
				if string(e.key) != keys[want] {
					t.Fatalf("after %s comes %s, not %s", key, e.key, keys[want])
				}
				break
			}
			passed++
		}
		if err != nil || passed > 2*stretchBytes/16 || (at >= f.end && want < len(keys)-1) {
			t.Fatalf("%s: %d entries passed, %v", key, passed, err)
		}
	}
}

func TestEntriesAreSortedByTheirKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom([]string{"", "source/", "\x00\x00", "\xff"}).Draw(t, "prefix")
		m := map[string]Entry{}
		for _, k := range rapid.SliceOfN(rapid.StringMatching(`[\x00ab/\x{ff}]{0,14}`), 0, 40).Draw(t, "keys") {
			m[prefix+k] = Entry{Key: prefix + k, Value: []byte(k)}
		}
		var all []Entry
		for e := range sorted(m) {
			all = append(all, *e)
		}
		if len(all) != len(m) || !slices.IsSortedFunc(all, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) }) {
			t.Fatalf("%v", all)
		}
		for _, e := range all {
			if string(m[e.Key].Value) != string(e.Value) {
				t.Fatalf("%q has another's value %q", e.Key, e.Value)
			}
		}
	})
}

// FuzzFile reads files that are not what they should be: there may be an error, and nothing else.
func FuzzFile(f *testing.F) {
	for _, keys := range [][]string{{"a"}, {"a", "b", "c"}, {"", "key", strings.Repeat("k", 5000)}} {
		f.Add(slices.Clone(fileOf(f, keys, nil).all), "b")
	}
	f.Fuzz(func(t *testing.T, all []byte, key string) {
		r := &file{all: all}
		if err := r.parse(); err != nil {
			if len(all) >= headerBytes && string(all[:len(magic)]) == magic && !errors.Is(err, errCorrupt) {
				t.Errorf("%v is no errCorrupt", err)
			}
			return
		}
		hash := hashOf(key)
		r.touch([]uint64{hash}, r.index.among([]uint64{hash}, nil))
		e, found, _, err := r.get(key, hash)
		if found && (err != nil || string(e.key) != key) {
			t.Errorf("%q was found as %q, %v", key, e.key, err)
		}
		if _, err := r.seek(key); err != nil {
			return
		}
		m, err := newMerge([]cursor{{run: &run{file: r}, next: headerBytes, after: key}})
		for more := err == nil; more && err == nil; {
			_, more, err = m.take()
		}
	})
}
