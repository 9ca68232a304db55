package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// readChunk is how much of a segment is read at once if the caller's limit is larger.
const readChunk = 4 << 20

// Limit bounds a batch. A record larger than Bytes comes alone.
type Limit struct {
	Records int
	Bytes   int
}

// Batch is a stretch of the log.
type Batch struct {
	Records []Record
	// Next is the position after the batch: what Ack wants to hear when all of it was passed on.
	Next Pos
}

// reader is where the reader stands.
type reader struct {
	seg    *segment
	off    int64
	pos    Pos // of the next record to be read
	synced time.Time
}

// Read returns the records after those that it returned last, at least one. It waits for one until ctx ends or the
// spool is closed (ErrClosed). Only after a restart does it begin again at what was acknowledged.
func (s *Spool) Read(ctx context.Context, limit Limit) (Batch, error) {
	for {
		batch, err := s.tryRead(limit)
		if err != nil || len(batch.Records) > 0 {
			return batch, err
		}
		if err := s.wait(ctx); err != nil {
			return Batch{}, err
		}
	}
}

// wait returns when there may be something to read. Meanwhile it flushes the cursor, if that is due.
func (s *Spool) wait(ctx context.Context) error {
	var due <-chan time.Time
	if s.marks.unsynced() {
		timer := time.NewTimer(s.opts.CursorSync)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.arrive:
		return nil
	case <-due:
		s.reader.synced = s.opts.Now()
		return s.marks.sync()
	}
}

// tryRead reads one stretch of one segment; an empty batch means that there is nothing to read now.
func (s *Spool) tryRead(limit Limit) (Batch, error) {
	for {
		end, more, err := s.position()
		if err != nil {
			return Batch{}, err
		}
		if s.reader.off >= end {
			if more {
				continue
			}
			return Batch{}, nil
		}
		batch, err := s.readSegment(s.reader.seg, end, limit)
		if err != nil || len(batch.Records) > 0 {
			return batch, err
		}
	}
}

// position puts the reader on the segment to read, and tells how much of it is durable and whether there are newer ones.
func (s *Spool) position() (end int64, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, false, ErrClosed
	}
	if s.cursor == s.next {
		// There is nothing to read, and the writer may delete even the newest segment.
		s.reader.seg = s.segments[len(s.segments)-1]
		s.reader.off, s.reader.pos = s.reader.seg.size, s.next
		return s.reader.off, false, nil
	}
	more = s.advanceLocked()
	return s.reader.seg.size, more, nil
}

// advanceLocked goes to the next segment if the reader's one is read to its end, and tells whether there are newer ones.
func (s *Spool) advanceLocked() (more bool) {
	i := slices.Index(s.segments, s.reader.seg)
	if i < 0 { // it was drained and deleted
		s.reader.seg, s.reader.off, s.reader.pos = s.segments[0], 0, max(s.reader.pos, s.segments[0].base)
		return len(s.segments) > 1
	}
	if i == len(s.segments)-1 {
		return false
	}
	if s.reader.off < s.reader.seg.size {
		return true
	}
	next := s.segments[i+1]
	if expected := max(s.reader.pos, s.cursor); expected < next.base {
		s.reportLoss(Damage{Segment: s.reader.seg.name(), From: s.reader.off, To: s.reader.off,
			FirstLost: expected, Lost: int64(next.base - expected)}, false)
	}
	s.reader.seg, s.reader.off, s.reader.pos = next, 0, max(s.reader.pos, next.base)
	return i+1 < len(s.segments)-1
}

// readSegment returns the good records between the reader's offset and end.
func (s *Spool) readSegment(seg *segment, end int64, limit Limit) (Batch, error) {
	buf, err := readAt(seg, s.reader.off, min(end-s.reader.off, int64(min(max(limit.Bytes, headerSize), readChunk))))
	if err != nil {
		return Batch{}, err
	}
	var batch Batch
	size := 0
	for len(batch.Records) < max(limit.Records, 1) {
		f, err := parse(buf, seg.salt)
		if errors.Is(err, errShort) && s.reader.off+int64(len(buf)) < end && len(batch.Records) == 0 {
			// One frame larger than the stretch that was read.
			want := max(int64(f.size), 2*int64(len(buf)), headerSize)
			if buf, err = readAt(seg, s.reader.off, min(end-s.reader.off, want)); err != nil {
				return Batch{}, err
			}
			continue
		}
		if errors.Is(err, errShort) && s.reader.off+int64(len(buf)) < end {
			break // the rest of it comes with the next stretch
		}
		if err == nil && f.pos >= s.reader.pos {
			if size > 0 && size+f.size > limit.Bytes {
				break
			}
			if rec, ok := s.accept(seg, f); ok {
				batch.Records = append(batch.Records, rec)
				size += f.size
			}
			s.reader.off += int64(f.size)
			buf = buf[f.size:]
			if len(buf) == 0 {
				break
			}
			continue
		}
		if len(batch.Records) > 0 {
			break // hand out what is good before going over the damage
		}
		if err := s.skip(seg, end); err != nil {
			return Batch{}, err
		}
		break
	}
	batch.Next = s.reader.pos
	return batch, nil
}

// accept takes a good frame: it reports what is missing before it, and leaves out what was acknowledged before a restart.
func (s *Spool) accept(seg *segment, f frame) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if expected := max(s.reader.pos, s.cursor); f.pos > expected {
		s.reportLoss(Damage{Segment: seg.name(), From: s.reader.off, To: s.reader.off, FirstLost: expected, Lost: int64(f.pos - expected)}, false)
	}
	s.reader.pos = f.pos + 1
	if f.pos < s.cursor {
		return Record{}, false
	}
	rec, err := decode(f.payload)
	if err != nil {
		s.reportLoss(Damage{Segment: seg.name(), From: s.reader.off, To: s.reader.off + int64(f.size), FirstLost: f.pos, Lost: 1}, false)
		return Record{}, false
	}
	return rec, true
}

// skip moves the reader from a damaged frame to the next that may be good, or to the end of the segment.
func (s *Spool) skip(seg *segment, end int64) error {
	rest, err := readAt(seg, s.reader.off, end-s.reader.off)
	if err != nil {
		return err
	}
	f, _ := parse(rest, seg.salt)
	n := nextCandidate(rest, seg.salt, f)
	s.opts.Logger.Error("the spool skips damaged bytes", "segment", seg.name(), "from", s.reader.off, "bytes", n)
	if n >= 0 {
		s.reader.off += int64(n)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg == s.segments[len(s.segments)-1] && seg.size == end {
		// Nothing follows that would show what is missing.
		s.reportLoss(Damage{Segment: seg.name(), From: s.reader.off, To: end, FirstLost: s.reader.pos, Lost: int64(s.next - s.reader.pos)}, false)
		s.reader.pos = s.next
	}
	s.reader.off = end
	return nil
}

func readAt(seg *segment, off, n int64) ([]byte, error) {
	buf := make([]byte, n)
	if m, err := seg.file.ReadAt(buf, off); err != nil && (!errors.Is(err, io.EOF) || int64(m) != n) {
		return nil, fmt.Errorf("read segment %s of the spool: %w", seg.name(), err)
	}
	return buf, nil
}

// Ack says that everything before pos was passed on. It is remembered beyond the end of the process, and within
// Options.CursorSync beyond a power cut; until then records may be read again. Segments that are read to their end are deleted.
func (s *Spool) Ack(pos Pos) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if pos > s.reader.pos {
		s.mu.Unlock()
		return fmt.Errorf("acknowledge %d in the spool: only %d was read", pos, s.reader.pos)
	}
	ahead := pos > s.cursor
	s.cursor = max(s.cursor, pos)
	s.mu.Unlock()
	if !ahead {
		return nil
	}
	if err := s.marks.write(pos); err != nil {
		return err
	}
	if now := s.opts.Now(); now.Sub(s.reader.synced) >= s.opts.CursorSync {
		s.reader.synced = now
		if err := s.marks.sync(); err != nil {
			return err
		}
	}
	return s.dropDrained()
}

// dropDrained deletes the segments before the cursor. Their deletion must not reach the disk before the cursor does.
func (s *Spool) dropDrained() error {
	s.dropping.Lock()
	defer s.dropping.Unlock()
	for seg := s.drained(); seg != nil; seg = s.drained() {
		if err := s.marks.sync(); err != nil {
			return err
		}
		if err := s.forget(seg); err != nil {
			return err
		}
		if err := s.opts.Disk.Remove(seg.name()); err != nil {
			return fmt.Errorf("delete drained segment %s of the spool: %w", seg.name(), err)
		}
	}
	return nil
}

// drained returns the oldest segment if it lies before the cursor, or nil.
func (s *Spool) drained() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.segments) < 2 || s.segments[1].base > s.cursor {
		return nil
	}
	return s.segments[0]
}

// forget takes the oldest segment out of the log.
func (s *Spool) forget(seg *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.segments = s.segments[1:]
	s.bytes -= seg.size
	s.leaving = max(0, s.leaving-seg.size)
	if err := seg.file.Close(); err != nil {
		return fmt.Errorf("close drained segment %s of the spool: %w", seg.name(), err)
	}
	return nil
}
