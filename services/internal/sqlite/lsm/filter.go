package lsm

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

const (
	// filterBits is how many bits a filter has for each key: about one of a thousand keys that are not in a run looks as if it were. A key
	// that is nowhere is asked for in each run, some thirty with ten million rows, and a page read in vain costs more than a hundred filters.
	filterBits = 16
	// filterBlock is how many words make a block, a line of the processor's cache.
	filterBlock = 8
	// filterMagic begins a filter as it is stored. What an older version stored begins with a zero.
	filterMagic = "blocked1"
)

// filter is a Bloom filter in blocks: all bits of a key lie in one line of the processor's cache, one in each word of it. A large
// filter lies in main memory, and there the bits of an ordinary one would be seven waits for a key that it holds, and two for one that it
// does not (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007).
type filter []uint64

// salts make the bits of a word independent of those of the others: odd numbers, as in the split block Bloom filters of
// https://parquet.apache.org/docs/file-format/bloomfilter/, here for words of 64 bits.
var salts = [filterBlock]uint64{
	0x47b6137b44974d91, 0x8824ad5ba2b7289d, 0x705495c72df1424b, 0x9efc49475c6bfb31,
	0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93,
}

func newFilter(keys int64) filter {
	blocks := (max(keys, 1)*filterBits + filterBlock*64 - 1) / (filterBlock * 64)
	return make(filter, blocks*filterBlock)
}

// hashOf is what filters know of a key.
func hashOf[K string | []byte](key K) uint64 {
	switch k := any(key).(type) {
	case string:
		return xxhash.Sum64String(k)
	default:
		return xxhash.Sum64(k.([]byte))
	}
}

// block is the part of the filter for a hash.
func (f filter) block(hash uint64) []uint64 {
	n, _ := bits.Mul64(hash, uint64(len(f)/filterBlock))
	return f[n*filterBlock : (n+1)*filterBlock]
}

func (f filter) add(hash uint64) {
	b := (*[filterBlock]uint64)(f.block(hash))
	for i, salt := range salts {
		b[i] |= 1 << (hash * salt >> 58)
	}
}

// among says of each hash whether the filter has it. A large filter lies in main memory, and the processor waits for several lines of it at once only
// as far as it looks ahead, a few hundred instructions: hence all lines are asked for one bit first, with few instructions each and no branch, and only
// those that have it, half of them in vain, for the others.
func (f filter) among(hashes []uint64, held []bool) {
	blocks := uint64(len(f) / filterBlock)
	held = held[:len(hashes)]
	for i, hash := range hashes {
		n, _ := bits.Mul64(hash, blocks)
		held[i] = f[n*filterBlock]>>(hash*salts[0]>>58)&1 != 0
	}
	for i, hash := range hashes {
		held[i] = held[i] && f.has(hash)
	}
}

// has does not stop at the first bit that is missing, because a branch that cannot be foreseen costs more than the bits.
func (f filter) has(hash uint64) bool {
	b := (*[filterBlock]uint64)(f.block(hash))
	all := uint64(1)
	for i, salt := range salts {
		all &= b[i] >> (hash * salt >> 58)
	}
	return all != 0
}

func (f filter) encode() []byte {
	out := make([]byte, 0, len(filterMagic)+8*len(f))
	out = append(out, filterMagic...)
	for _, w := range f {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// decodeFilter reads a filter; ok false: it is one that an older version stored.
func decodeFilter(b []byte) (f filter, ok bool, err error) {
	if len(b) < len(filterMagic) || string(b[:len(filterMagic)]) != filterMagic {
		return nil, false, nil
	}
	b = b[len(filterMagic):]
	if len(b) == 0 || len(b)%(8*filterBlock) != 0 {
		return nil, false, errCorrupt
	}
	f = make(filter, len(b)/8)
	for i := range f {
		f[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return f, true, nil
}
