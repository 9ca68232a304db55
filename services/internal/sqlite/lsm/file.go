package lsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
)

// The file of a run is: a header; the entries in the order of their keys, each at a multiple of unit; of each stretch of the entries the place of
// the first one that begins in it, for whoever looks for a key's neighbours; and the words and the lines of the index. All numbers are little-endian.
const (
	magic       = "hookrun1"
	headerBytes = 64
	// unit is what places are counted in, from the beginning of the file.
	unit = 8
	// stretchBytes is how far apart the places are that a search among keys looks at.
	stretchBytes = 4096
	// mostBytes is how large the entries of a run may be, for places of 32 bits.
	mostBytes = unit * math.MaxUint32
	// suffix is what names of runs end with, and spotsSuffix those of what is needed while one is written.
	suffix, spotsSuffix = ".run", ".spots"
)

// fileName is unique: what a transaction that was rolled back has left is not what a later one makes under the same number.
func fileName(table string, id, token int64) string {
	return fmt.Sprintf("%s-%d-%016x%s", table, id, uint64(token), suffix) //nolint:gosec // the bits are meant
}

// file is the file of a run, mapped into memory. The memory is given back when nothing refers to the file any more: whoever holds a part of
// it keeps the file alive.
type file struct {
	all []byte
	// end is where the entries end, which begin after the header.
	end    int
	places []byte
	index  index
	parts  int
}

// openFile maps a file. fresh: it was written just now, so that all of it is in memory.
func openFile(path string, fresh bool) (*file, error) {
	f, err := os.Open(path) //nolint:gosec // a name of ours
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: a database and the folder beside it whose name ends with -runs belong together; bring both from the same backup", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	all, unmap, err := mapFile(f, fresh)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	r := &file{all: all}
	if unmap != nil {
		runtime.AddCleanup(r, func(all []byte) { unmap(all) }, all)
	}
	if err := r.parse(); err != nil {
		return nil, fmt.Errorf("%s: %w: bring it back from a backup", path, err)
	}
	return r, nil
}

// header are the numbers of a header after the magic.
type header struct{ end, places, lines, parts uint64 }

func (h header) encode() []byte {
	b := append(make([]byte, 0, headerBytes), magic...)
	for _, n := range []uint64{h.end, h.places, h.lines, h.parts} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b[:headerBytes]
}

// wordsAt is where the words begin: as the lines do, where a line of the cache does.
func (h header) wordsAt() uint64 { return wholeLines(h.end + h.places*4) }

func (h header) linesAt() uint64 { return wholeLines(h.wordsAt() + h.lines*wordBytes) }

func (h header) size() uint64 { return h.linesAt() + h.lines*lineBytes }

func wholeLines(n uint64) uint64 { return (n + lineBytes - 1) / lineBytes * lineBytes }

func (f *file) parse() error {
	if len(f.all) < headerBytes || string(f.all[:len(magic)]) != magic {
		return errors.New("this is no run")
	}
	number := func(n int) uint64 { return binary.LittleEndian.Uint64(f.all[len(magic)+8*n:]) }
	h, size := header{number(0), number(1), number(2), number(3)}, uint64(len(f.all))
	if h.end < headerBytes || h.end > size || h.places > size/4 || h.lines > size/lineBytes || h.size() != size || h.parts == 0 || h.parts > h.lines || h.lines%h.parts != 0 {
		return fmt.Errorf("%d bytes, which is not what its header says: %w", size, errCorrupt)
	}
	f.end, f.parts, f.places = int(h.end), int(h.parts), f.all[h.end:h.end+h.places*4] //nolint:gosec // below size
	f.index = index{words: f.all[h.wordsAt() : h.wordsAt()+h.lines*wordBytes], lines: f.all[h.linesAt():]}
	return nil
}

// entry reads the entry at an offset and returns where the next one begins.
func (f *file) entry(at int) (e raw, next int, err error) {
	if at < headerBytes || at >= f.end {
		return e, 0, fmt.Errorf("an entry at %d of %d bytes: %w", at, f.end, errCorrupt)
	}
	e, rest, err := readEntry(f.all[at:f.end])
	if err != nil {
		return e, 0, fmt.Errorf("the entry at %d of %d bytes: %w", at, f.end, err)
	}
	return e, aligned(f.end - len(rest)), nil
}

func aligned(n int) int { return (n + unit - 1) / unit * unit }

// get looks for a key. vain is how many other entries were looked at.
func (f *file) get(key string, hash uint64) (e raw, found bool, vain int, err error) {
	found, sure, err := f.index.find(hash, f.parts, func(place uint32) (bool, error) {
		if e, _, err = f.entry(int(place) * unit); err != nil {
			return false, err
		}
		if string(e.key) == key {
			return true, nil
		}
		vain++
		return false, nil
	})
	if sure || err != nil {
		return e, found, vain, err
	}
	at, err := f.seek(key)
	for err == nil && at < f.end {
		if e, at, err = f.entry(at); err == nil && string(e.key) >= key {
			return e, string(e.key) == key, vain, nil
		}
		vain++
	}
	return raw{}, false, vain, err
}

// seek returns an offset from which on a key and every one above it is found, and few others.
func (f *file) seek(key string) (int, error) {
	lo, hi := 0, len(f.places)/4
	for lo < hi {
		mid := (lo + hi) / 2
		e, _, err := f.entry(f.place(mid))
		if err != nil {
			return 0, err
		}
		if string(e.key) <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return headerBytes, nil
	}
	return f.place(lo - 1), nil
}

func (f *file) place(n int) int { return int(binary.LittleEndian.Uint32(f.places[4*n:])) * unit }

// touch reads something of what is read to get some keys, so that the processor waits for many of them at once, instead of one
// after the other as they are compared.
func (f *file) touch(hashes []uint64, held []int32) {
	f.index.touch(hashes, held)
	sum := byte(0)
	for _, i := range held {
		if at := uint64(f.index.first(hashes[i])) * unit; at < uint64(f.end) { //nolint:gosec // not negative
			sum += f.all[at]
		}
	}
	runtime.KeepAlive(sum)
}
