package lsm

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

func TestAFilterHasItsKeysAndFewOthers(t *testing.T) {
	const keys, others = 100_000, 400_000
	f := newFilter(keys)
	key := func(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }
	for i := range keys {
		f.add(hashOf(key(i)))
	}
	f, ok, err := decodeFilter(f.encode())
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	for i := range keys {
		if !f.has(hashOf(key(i))) {
			t.Fatalf("key %d is not in the filter", i)
		}
	}
	wrong := 0
	hashes, held := make([]uint64, others), make([]bool, others)
	for i := range others {
		hashes[i] = hashOf(key(keys + i))
	}
	f.among(hashes, held)
	for i := range others {
		if f.has(hashes[i]) != held[i] {
			t.Fatalf("key %d is in the filter by itself, or among others, but not both", keys+i)
		}
		if held[i] {
			wrong++
		}
	}
	if share := float64(wrong) / others; share > 0.0013 {
		t.Errorf("%.4f of the other keys look as if they were in it", share)
	}
}

func TestAnyFilterIsRefusedOrRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "named") {
			b = append([]byte(filterMagic), b...)
		}
		f, ok, err := decodeFilter(b)
		if ok && err == nil && f.has(hashOf("a")) && len(f)%filterBlock != 0 {
			t.Fatal("a filter of half a block")
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	const keys = 10_000_000
	f := newFilter(keys)
	for i := range uint64(keys) {
		f.add(i * 0x9e3779b97f4a7c15)
	}
	b.Run("absent", func(b *testing.B) {
		found := 0
		for i := uint64(keys); b.Loop(); i++ {
			if f.has(i * 0x9e3779b97f4a7c15) {
				found++
			}
		}
		b.ReportMetric(float64(found)/float64(b.N), "found/op")
	})
	b.Run("present", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			if !f.has(i % keys * 0x9e3779b97f4a7c15) {
				b.Fatal("lost")
			}
		}
	})
}
