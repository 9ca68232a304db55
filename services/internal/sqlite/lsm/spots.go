package lsm

import (
	"encoding/binary"
	"os"
)

const (
	spotBytes = 12 // a hash and a place
	// heapBytes is how much of the spots of a part is kept in memory.
	heapBytes = 512 * spotBytes
)

// spots are where the keys of a run that is being written are, by the parts of its index, in no order. There are as many as there are keys, so
// most of them are in a file of their own; it has no name, or loses it with its process.
type spots struct {
	path  string
	lines uint64 // of the whole index
	each  uint64 // of a part
	parts []heap
	file  *os.File
	size  int64
}

// heap are the spots of a part: those in memory, and the offsets of those in the file, heapBytes each.
type heap struct {
	near []byte
	far  []int64
}

func newSpots(path string, keys int64) *spots {
	parts, lines := shape(keys)
	return &spots{path: path, lines: uint64(parts * lines), each: uint64(lines), parts: make([]heap, parts)} //nolint:gosec // not negative
}

func (s *spots) add(hash uint64, place uint32) error {
	h := &s.parts[lineOf(hash, s.lines)/s.each]
	h.near = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(h.near, hash), place)
	if len(h.near) < heapBytes {
		return nil
	}
	if s.file == nil {
		var err error
		if s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		_ = os.Remove(s.path) // where a file in use cannot be removed, close does it
	}
	if _, err := s.file.WriteAt(h.near, s.size); err != nil {
		return err
	}
	h.far, h.near = append(h.far, s.size), h.near[:0]
	s.size += heapBytes
	return nil
}

// build makes a part of the index, in the memory of another one.
func (s *spots) build(part int, x index) error {
	clear(x.words)
	clear(x.lines)
	h, from := &s.parts[part], uint64(part)*s.each //nolint:gosec // not negative
	put := func(all []byte) {
		for ; len(all) > 0; all = all[spotBytes:] {
			hash := binary.LittleEndian.Uint64(all)
			x.add(int(lineOf(hash, s.lines)-from), hash, binary.LittleEndian.Uint32(all[8:])) //nolint:gosec // of this part
		}
	}
	buffer := make([]byte, heapBytes)
	for _, at := range h.far {
		if _, err := s.file.ReadAt(buffer, at); err != nil {
			return err
		}
		put(buffer)
	}
	put(h.near)
	*h = heap{}
	return nil
}

func (s *spots) close() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.path)
	}
	s.parts, s.file = nil, nil
}
