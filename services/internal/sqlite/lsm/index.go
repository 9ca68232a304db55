package lsm

import (
	"encoding/binary"
	"math/bits"
	"runtime"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// An index says whether a run has a key, and where in the file. It is a hash table whose buckets are lines of the processor's cache, each
// with ten slots: of the 64 bytes of a line the first twenty are marks, 16 bits of each key's hash, after them are a flag and the number of slots in use,
// and then the places of the entries. A key costs one line, whatever the number of keys; a search among sorted keys costs one for each doubling.
//
// Beside each line there is a word, a Bloom filter of the line's keys of which each has four bits: all words are an eighth of the memory of all
// lines, hence nearer to the processor, and 98 of 100 keys that a run does not have cost it a word and no line. (A key is asked for in every run that is
// younger than the one that has it, and in all if none has.)
//
// Lines are in parts, and what has no room in its line is in the next one of its part, so that parts are made one after the other, in little memory.
type index struct{ words, lines []byte }

const (
	wordBytes = 8
	lineBytes = 64
	slots     = 10
	flagAt    = 2 * slots // 1: a key of this line is in the next one, or farther
	countAt   = flagAt + 1
	placesAt  = 24
	// fillLines of fillKeys: how many lines there are for how many keys. Two slots of three are used, and one line of some thirteen has a flag.
	fillLines, fillKeys = 3, 20
	// mostLines is how many lines a part has at most: what fits into the processor's cache.
	mostLines = 4096
)

// shape is how many parts of how many lines an index has for a number of keys.
func shape(keys int64) (parts, lines int64) {
	all := max(keys, 1)*fillLines/fillKeys + 1
	parts = (all + mostLines - 1) / mostLines
	return parts, (all + parts - 1) / parts
}

// hashOf is what indexes know of a key.
func hashOf[K string | []byte](key K) uint64 {
	switch k := any(key).(type) {
	case string:
		return xxhash.Sum64String(k)
	default:
		return xxhash.Sum64(k.([]byte))
	}
}

// lineOf is a hash's line of some, by its high bits.
func lineOf(hash, lines uint64) uint64 {
	n, _ := bits.Mul64(hash, lines)
	return n
}

// markOf is by the low bits of a hash, and never 0, which is a slot that is free.
func markOf(hash uint64) uint16 { return max(uint16(hash), 1) } //nolint:gosec // the low bits are meant

// bitsOf are the bits of a hash in its line's word, by other bits of it.
func bitsOf(hash uint64) uint64 {
	return 1<<(hash>>16&63) | 1<<(hash>>22&63) | 1<<(hash>>28&63) | 1<<(hash>>34&63)
}

// add puts a key into a part, whose lines are not more than a part has. line is which of them is the key's. What has no room in the whole part, because of
// hashes that were made to be alike, is left out, and every line has its flag: such a key is searched for in the order of keys.
func (x index) add(line int, hash uint64, place uint32) {
	word := x.words[line*wordBytes:]
	binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)|bitsOf(hash))
	for at := line * lineBytes; ; {
		l := x.lines[at : at+lineBytes]
		if n := int(l[countAt]); n < slots {
			binary.LittleEndian.PutUint16(l[2*n:], markOf(hash))
			binary.LittleEndian.PutUint32(l[placesAt+4*n:], place)
			l[countAt]++
			return
		}
		l[flagAt] = 1
		if at += lineBytes; at == len(x.lines) {
			at = 0
		}
		if at == line*lineBytes {
			return
		}
	}
}

// among appends the numbers of the hashes whose lines may have them. There is no branch and there are few instructions for each, so that the
// processor waits for many words at once.
func (x index) among(hashes []uint64, held []int32) []int32 {
	n, lines := len(held), uint64(len(x.words)/wordBytes)
	held = slices.Grow(held, len(hashes)+1)[:n+len(hashes)+1]
	for i, hash := range hashes {
		at := lineOf(hash, lines) * wordBytes
		missing := bitsOf(hash) &^ binary.LittleEndian.Uint64(x.words[at:at+wordBytes])
		held[n] = int32(i)                   //nolint:gosec // not that many are asked for at once
		n += int(1 - (missing|-missing)>>63) //nolint:gosec // 0 or 1
	}
	return held[:n]
}

// touch reads what find will read of some hashes, in rounds, so that the processor waits for many lines at once.
func (x index) touch(hashes []uint64, held []int32) {
	sum, lines := byte(0), uint64(len(x.lines)/lineBytes)
	for _, i := range held {
		sum += x.lines[lineOf(hashes[i], lines)*lineBytes]
	}
	runtime.KeepAlive(sum)
}

// first is the place in a hash's own line that looks like its; 0: there is none.
func (x index) first(hash uint64) uint32 {
	at, mark := lineOf(hash, uint64(len(x.lines)/lineBytes))*lineBytes, markOf(hash)
	line := x.lines[at : at+lineBytes]
	for i := range slots {
		if binary.LittleEndian.Uint16(line[2*i:]) == mark {
			return binary.LittleEndian.Uint32(line[placesAt+4*i:])
		}
	}
	return 0
}

// find calls is for the places that look like those of a hash until it says yes or errs. sure: if it is not found, there is none.
func (x index) find(hash uint64, parts int, is func(place uint32) (bool, error)) (found, sure bool, err error) {
	part := len(x.lines) / parts
	at, mark := int(lineOf(hash, uint64(len(x.lines)/lineBytes)))*lineBytes, markOf(hash) //nolint:gosec // below len
	from := at / part * part
	for range part / lineBytes {
		line := x.lines[at : at+lineBytes]
		for i := range slots {
			if binary.LittleEndian.Uint16(line[2*i:]) != mark {
				continue
			}
			if found, err = is(binary.LittleEndian.Uint32(line[placesAt+4*i:])); found || err != nil {
				return found, true, err
			}
		}
		if line[flagAt] == 0 {
			return false, true, nil
		}
		if at += lineBytes; at == from+part {
			at = from
		}
	}
	return false, false, nil
}
