package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// segment is one file of the log. Its name says the number of its first record and its salt, so that damage inside the file
// cannot touch them: 00000000000000000042-0123456789abcdef.log.
type segment struct {
	base Pos
	salt uint64
	file File
	size int64 // durable bytes
}

func (s *segment) name() string { return fmt.Sprintf("%020d-%016x.log", s.base, s.salt) }

// parseName reads a segment's name.
func parseName(name string) (*segment, bool) {
	s := &segment{}
	if n, err := fmt.Sscanf(name, "%020d-%016x.log", &s.base, &s.salt); n != 2 || err != nil || s.name() != name {
		return nil, false
	}
	return s, true
}

// createSegment begins a new segment.
func createSegment(d Disk, base Pos) (*segment, error) {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	s := &segment{base: base, salt: binary.LittleEndian.Uint64(salt[:])}
	f, err := d.Create(s.name())
	if err != nil {
		return nil, fmt.Errorf("create segment %s: %w", s.name(), err)
	}
	if err := d.SyncDir(); err != nil {
		return nil, errors.Join(fmt.Errorf("flush the directory after segment %s was created: %w", s.name(), err), f.Close(), d.Remove(s.name()))
	}
	s.file = f
	return s, nil
}

// openSegments opens what is there, in order.
func openSegments(d Disk) ([]*segment, error) {
	names, err := d.List()
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var segments []*segment
	for _, name := range names {
		s, ok := parseName(name)
		if !ok {
			if strings.HasSuffix(name, ".log") {
				return segments, fmt.Errorf("%s is not a segment's name; move it away, or give it its old name back", name)
			}
			continue
		}
		f, size, err := d.Open(name)
		if err != nil {
			return segments, fmt.Errorf("open segment %s: %w", name, err)
		}
		s.file, s.size = f, size
		segments = append(segments, s)
	}
	slices.SortFunc(segments, func(a, b *segment) int {
		if a.base != b.base {
			if a.base < b.base {
				return -1
			}
			return 1
		}
		// A segment of the same number was created, never written and then created again: the longer one is the one in use.
		return int(min(max(a.size-b.size, -1), 1))
	})
	return segments, nil
}
