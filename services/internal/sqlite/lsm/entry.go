package lsm

import (
	"cmp"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"strings"
)

// Entry is one row. In tables and runs there is one per key; a Deleted one hides what older runs hold of its key.
type Entry struct {
	Key   string
	Value []byte
	// Expires is when the entry may be dropped, in microseconds since 1970; 0: never. It is found until then, and maybe later.
	Expires int64
	Deleted bool
}

// size is about how many bytes an entry takes in memory.
func (e *Entry) size() int { return len(e.Key) + len(e.Value) + 96 }

// sorted hands out entries in the order of their keys. Most of it is decided by eight bytes of each key, after those that all have in common.
func sorted(m map[string]Entry) iter.Seq[*Entry] {
	least, most := "", ""
	for k := range m {
		if least == "" || k < least {
			least = k
		}
		most = max(most, k)
	}
	if _, ok := m[""]; ok {
		least = ""
	}
	common := 0
	for common < len(least) && least[common] == most[common] {
		common++
	}
	type ranked struct {
		rank uint64
		at   int
	}
	all, order := make([]Entry, 0, len(m)), make([]ranked, 0, len(m))
	for k, e := range m {
		var eight [8]byte
		copy(eight[:], k[common:])
		order = append(order, ranked{binary.BigEndian.Uint64(eight[:]), len(all)})
		all = append(all, e)
	}
	slices.SortFunc(order, func(a, b ranked) int {
		if a.rank != b.rank {
			return cmp.Compare(a.rank, b.rank)
		}
		return strings.Compare(all[a.at].Key, all[b.at].Key)
	})
	return func(yield func(*Entry) bool) {
		for _, o := range order {
			if !yield(&all[o.at]) {
				return
			}
		}
	}
}

var errCorrupt = errors.New("an entry is cut off")

// appendEntry writes: the length of the key, the key, the time, twice the length of the value (plus 1 if deleted), the value.
func appendEntry(b []byte, e *Entry) []byte {
	return appendParts(b, e.Key, e.Value, e.Expires, e.Deleted)
}

func appendParts[K string | []byte](b []byte, key K, value []byte, expires int64, deleted bool) []byte {
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendVarint(b, expires)
	n := uint64(len(value)) << 1
	if deleted {
		n |= 1
	}
	b = binary.AppendUvarint(b, n)
	return append(b, value...)
}

// raw is an entry whose parts are parts of a page.
type raw struct {
	key, value []byte
	expires    int64
	deleted    bool
}

func (r *raw) entry() Entry {
	return Entry{Key: string(r.key), Value: append([]byte(nil), r.value...), Expires: r.expires, Deleted: r.deleted}
}

// readEntry reads one entry and returns what follows it.
func readEntry(b []byte) (e raw, rest []byte, err error) {
	if e.key, b, err = readBytes(b, 0); err != nil {
		return e, nil, err
	}
	n := 0
	if e.expires, n = binary.Varint(b); n <= 0 {
		return e, nil, errCorrupt
	}
	if b = b[n:]; len(b) == 0 {
		return e, nil, errCorrupt
	}
	e.deleted = b[0]&1 == 1
	e.value, rest, err = readBytes(b, 1)
	return e, rest, err
}

// readBytes reads a length, of which some low bits mean something else, and as many bytes.
func readBytes(b []byte, low int) (data, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	n >>= low
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, errCorrupt
	}
	return b[w : w+int(n)], b[w+int(n):], nil
}
