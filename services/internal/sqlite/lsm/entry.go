package lsm

import (
	"encoding/binary"
	"errors"
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

// fences are the first keys of a run's pages, one after the other in one piece of memory.
type fences struct {
	keys []byte
	ends []uint32
}

func (f *fences) add(key []byte) {
	f.keys = append(f.keys, key...)
	f.ends = append(f.ends, uint32(len(f.keys)))
}

func (f *fences) at(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = f.ends[i-1]
	}
	return f.keys[from:f.ends[i]]
}

// page is the page that holds a key if any does: the last one whose first key is not above it; -1: none.
func (f *fences) page(key string) int {
	lo, hi := 0, len(f.ends)
	for lo < hi {
		if mid := (lo + hi) / 2; string(f.at(mid)) <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

func (f *fences) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(f.ends)))
	for i := range f.ends {
		k := f.at(i)
		b = append(binary.AppendUvarint(b, uint64(len(k))), k...)
	}
	return b
}

func decodeFences(b []byte) (fences, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)) {
		return fences{}, errCorrupt
	}
	f := fences{keys: make([]byte, 0, len(b)), ends: make([]uint32, 0, n)}
	for b = b[w:]; n > 0; n-- {
		key, rest, err := readBytes(b, 0)
		if err != nil {
			return fences{}, err
		}
		f.keys = append(f.keys, key...)
		f.ends = append(f.ends, uint32(len(f.keys)))
		b = rest
	}
	return f, nil
}
