package spool

import (
	"errors"
	"fmt"
	"io"
)

// Damage is a stretch of a segment that cannot be read.
type Damage struct {
	// Segment is the file's name; From and To are the bytes of it, To excluded.
	Segment  string
	From, To int64
	// FirstLost and Lost say which records are missing. Lost is 0 if the bytes held none that was ever acknowledged (a torn tail).
	FirstLost Pos
	Lost      int64
}

// Damages lists what Open found and repaired: torn tails, which are harmless, and lost records.
func (s *Spool) Damages() []Damage { return s.damages }

// recover opens the segments, cuts off a torn tail and finds where to go on.
func (s *Spool) recover() (err error) {
	if s.segments, err = openSegments(s.opts.Disk); err != nil {
		return err
	}
	if s.cursor, err = s.marks.open(s.opts.Disk); err != nil {
		return err
	}
	if len(s.segments) > 0 {
		last := s.segments[len(s.segments)-1]
		if s.next, err = s.repair(last); err != nil {
			return err
		}
		if first := s.segments[0].base; s.cursor < first {
			// Segments are deleted only after the cursor has passed them on the disk.
			s.reportLoss(Damage{Segment: s.segments[0].name(), FirstLost: s.cursor, Lost: int64(first - s.cursor)}, true)
			s.cursor = first
		}
	}
	// A cursor beyond the end means that the end of the log is gone, but it had been drained. Numbers are never used twice.
	if len(s.segments) == 0 || s.cursor > s.next {
		s.next = max(s.next, s.cursor)
		seg, err := createSegment(s.opts.Disk, s.next)
		if err != nil {
			return err
		}
		s.segments = append(s.segments, seg)
	}
	for _, seg := range s.segments {
		s.bytes += seg.size
	}
	s.reader = reader{seg: s.segments[0], pos: s.segments[0].base}
	return s.dropDrained()
}

// repair cuts off what a crash has left at the end of the newest segment and returns the number of the next record.
func (s *Spool) repair(seg *segment) (Pos, error) {
	data := make([]byte, seg.size)
	if _, err := seg.file.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read segment %s: %w", seg.name(), err)
	}
	found := scan(data, seg.salt, seg.base)
	for _, d := range found.damages {
		d.Segment = seg.name()
		s.reportLoss(d, true)
	}
	if found.end < seg.size {
		torn := Damage{Segment: seg.name(), From: found.end, To: seg.size, FirstLost: found.next}
		s.damages = append(s.damages, torn)
		s.opts.Logger.Warn("the spool was cut off in the middle of a write; the unfinished end, which nobody was told to be safe, is removed",
			"segment", torn.Segment, "from", torn.From, "to", torn.To, "record", torn.FirstLost)
		if err := errors.Join(seg.file.Truncate(found.end), seg.file.Sync()); err != nil {
			return 0, fmt.Errorf("cut off the torn end of segment %s: %w", seg.name(), err)
		}
		seg.size = found.end
	}
	return found.next, nil
}

// reportLoss makes lost records known.
func (s *Spool) reportLoss(d Damage, opening bool) {
	if opening {
		s.damages = append(s.damages, d)
	}
	s.lost += d.Lost
	s.opts.Logger.Error("the spool lost records to a damaged disk; poll the sources to make up for them",
		"segment", d.Segment, "from", d.From, "to", d.To, "first_record", d.FirstLost, "records", d.Lost)
}

// found is what a scan of a segment found.
type found struct {
	end     int64 // of the last good frame
	next    Pos   // after the last good frame
	damages []Damage
}

// scan walks over the frames of a segment. Bytes after the last good frame are not damage but a torn end.
func scan(data []byte, salt uint64, base Pos) found {
	res := found{next: base}
	for off := 0; off < len(data); {
		f, err := parse(data[off:], salt)
		if err == nil && f.pos >= res.next {
			if f.pos > res.next {
				res.damages = append(res.damages, Damage{From: res.end, To: int64(off), FirstLost: res.next, Lost: int64(f.pos - res.next)})
			}
			off += f.size
			res.end, res.next = int64(off), f.pos+1
			continue
		}
		skip := nextCandidate(data[off:], salt, f)
		if skip < 0 {
			break
		}
		off += skip
	}
	return res
}

// nextCandidate says how far to go from a bad frame to what may be a good one; -1: there is none.
func nextCandidate(data []byte, salt uint64, bad frame) int {
	if bad.size > 0 && bad.size < len(data) {
		if f, err := parse(data[bad.size:], salt); err == nil || f.size > 0 {
			return bad.size
		}
	}
	return resync(data, salt)
}
