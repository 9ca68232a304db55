package lsm

import (
	"encoding/binary"
	"slices"
)

// fenceBlock is how many keys of pages make a block.
const fenceBlock = 16

// fences are the first keys of a run's pages. Of each block the first key is whole, and the others lack what they have in common with the one
// before them: a search walks through the few whole ones, which stay in the processor's cache, and then through one or two lines of memory,
// where a search among all keys waits for main memory twice a step.
type fences struct {
	count int
	// whole are the first keys of the blocks, one after the other, wholeEnds where they end.
	whole     []byte
	wholeEnds []uint32
	// rest are the other keys: the length of what is left out, the length of what follows, and that; restEnds is where those of a block end.
	rest     []byte
	restEnds []uint32
	last     []byte // the key that was added last
}

func (f *fences) add(key []byte) {
	if f.count%fenceBlock == 0 {
		f.whole = append(f.whole, key...)
		f.wholeEnds, f.restEnds = append(f.wholeEnds, uint32(len(f.whole))), append(f.restEnds, uint32(len(f.rest)))
	} else {
		n := common(f.last, key)
		f.rest = binary.AppendUvarint(f.rest, uint64(n))
		f.rest = binary.AppendUvarint(f.rest, uint64(len(key)-n))
		f.rest = append(f.rest, key[n:]...)
		f.restEnds[len(f.restEnds)-1] = uint32(len(f.rest))
	}
	f.last = append(f.last[:0], key...)
	f.count++
}

// common is how many bytes two keys begin with alike.
func common[A, B string | []byte](a A, b B) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// head is the first key of a block.
func (f *fences) head(block int) []byte {
	from := uint32(0)
	if block > 0 {
		from = f.wholeEnds[block-1]
	}
	return f.whole[from:f.wholeEnds[block]]
}

// tail are the other keys of a block.
func (f *fences) tail(block int) []byte {
	from := uint32(0)
	if block > 0 {
		from = f.restEnds[block-1]
	}
	return f.rest[from:f.restEnds[block]]
}

// tailKey reads one of the other keys: how much of the one before it it begins with, and what follows.
func tailKey(tail []byte) (shared int, own, rest []byte) {
	n, w := binary.Uvarint(tail)
	size, v := binary.Uvarint(tail[w:])
	tail = tail[w+v:]
	return int(n), tail[:size], tail[size:]
}

// page is the page that holds a key if any does: the last one whose first key is not above it; -1: none.
func (f *fences) page(key string) int {
	lo, hi := 0, len(f.wholeEnds)
	for lo < hi {
		if mid := (lo + hi) / 2; string(f.head(mid)) <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return -1
	}
	block := lo - 1
	page, tail := block*fenceBlock, f.tail(block)
	alike := common(f.head(block), key) // of the key and the first key of the page
	for len(tail) > 0 {
		shared, own, rest := tailKey(tail)
		switch {
		case shared < alike:
			return page // it differs where the key does not
		case shared == alike:
			if string(own) > key[alike:] {
				return page
			}
			alike += common(own, key[alike:])
		}
		page, tail = page+1, rest
	}
	return page
}

// encode writes the keys whole, as every version does.
func (f *fences) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(f.count))
	put := func(key []byte) { b = append(binary.AppendUvarint(b, uint64(len(key))), key...) }
	for block := range f.wholeEnds {
		key, tail := slices.Clone(f.head(block)), f.tail(block)
		put(key)
		for len(tail) > 0 {
			shared, own, rest := tailKey(tail)
			key = append(key[:shared], own...)
			put(key)
			tail = rest
		}
	}
	return b
}

func decodeFences(b []byte) (fences, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)) {
		return fences{}, errCorrupt
	}
	f := fences{}
	for b = b[w:]; n > 0; n-- {
		key, rest, err := readBytes(b, 0)
		if err != nil {
			return fences{}, err
		}
		f.add(key)
		b = rest
	}
	f.trim()
	return f, nil
}

// trim gives back the memory that grew for more keys than came.
func (f *fences) trim() {
	f.whole, f.wholeEnds = slices.Clip(slices.Clone(f.whole)), slices.Clip(slices.Clone(f.wholeEnds))
	f.rest, f.restEnds, f.last = slices.Clip(slices.Clone(f.rest)), slices.Clip(slices.Clone(f.restEnds)), nil
}
