package spool

import (
	"errors"
	"fmt"
	"runtime"
)

// chunkBytes is how much is collected before it is given to the file.
const chunkBytes = 1 << 20

// write is the one goroutine that writes: it takes the group that has collected while the last one was flushed, writes it
// with one flush, and answers all its callers. It ends when the spool is closed and nobody waits any more.
func (s *Spool) write() {
	defer close(s.done)
	var chunk []byte
	for range s.wake {
		for {
			// On a busy machine, those that are about to append come along and share the flush; on an idle one this takes no time.
			runtime.Gosched()
			g, active := s.take()
			if g == nil {
				break
			}
			chunk, g.err = s.commit(g, active, chunk[:0])
			s.mu.Lock()
			s.queued -= g.bytes
			if !s.group.needsRoom {
				s.leaving = 0
			}
			s.mu.Unlock()
			close(g.done)
			notify(s.arrive)
		}
		s.mu.Lock()
		ended := s.closed && len(s.group.frames) == 0
		s.mu.Unlock()
		if ended {
			return
		}
	}
}

// take returns the group that waits, or nil.
func (s *Spool) take() (*group, *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.group.frames) == 0 {
		return nil, nil
	}
	g := s.group
	s.group = newGroup()
	return g, s.segments[len(s.segments)-1]
}

// commit writes and flushes a group. Whatever fails, the log ends with a durable record afterwards, or nothing is acknowledged any more.
func (s *Spool) commit(g *group, active *segment, chunk []byte) ([]byte, error) {
	if err := s.Err(); err != nil {
		return chunk, err
	}
	w := &pass{spool: s, seg: active, end: active.size, next: s.next, chunk: chunk}
	var err error
	if g.needsRoom {
		err = w.makeRoom()
	}
	if err == nil {
		err = w.writeAll(g.frames)
	}
	if err != nil && !errors.Is(err, ErrFailed) {
		// The flushed part stays; what was written after it is cut off, so that the next group begins at a clean end.
		if cut := w.seg.file.Truncate(w.seg.size); cut != nil {
			err = s.fail(errors.Join(err, cut))
		}
	}
	if err != nil {
		s.opts.Logger.Error("the spool could not be written", "segment", w.seg.name(), "error", err)
	}
	return w.chunk, err
}

// fail makes the spool refuse everything from now on.
func (s *Spool) fail(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	return s.failed
}

// pass is the writing of one group. Only the writer goroutine has one.
type pass struct {
	spool *Spool
	seg   *segment
	end   int64 // of what was given to the file
	next  Pos   // number of the next frame
	chunk []byte
}

func (w *pass) writeAll(frames [][]byte) error {
	for _, f := range frames {
		if size := w.end + int64(len(w.chunk)); size > 0 && size+int64(len(f)) > w.spool.opts.SegmentBytes {
			if err := w.rotate(); err != nil {
				return err
			}
		}
		w.next = seal(f, w.seg.salt, w.next)
		w.chunk = append(w.chunk, f...)
		if len(w.chunk) >= chunkBytes {
			if err := w.flushChunk(); err != nil {
				return err
			}
		}
	}
	return w.sync()
}

func (w *pass) flushChunk() error {
	if len(w.chunk) == 0 {
		return nil
	}
	if _, err := w.seg.file.WriteAt(w.chunk, w.end); err != nil {
		return fmt.Errorf("write to segment %s of the spool: %w", w.seg.name(), err)
	}
	w.end += int64(len(w.chunk))
	if cap(w.chunk) > 4*chunkBytes {
		w.chunk = nil // a rare large record must not stay in memory
	}
	w.chunk = w.chunk[:0]
	return nil
}

// sync makes what was written durable and visible to the reader.
func (w *pass) sync() error {
	if err := w.flushChunk(); err != nil {
		return err
	}
	if err := w.seg.file.Sync(); err != nil {
		return w.spool.fail(fmt.Errorf("flush segment %s: %w", w.seg.name(), err))
	}
	s := w.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += w.end - w.seg.size
	w.seg.size = w.end
	s.next = w.next
	return nil
}

// rotate ends the segment and begins another.
func (w *pass) rotate() error {
	if err := w.sync(); err != nil {
		return err
	}
	seg, err := createSegment(w.spool.opts.Disk, w.next)
	if err != nil {
		return err
	}
	s := w.spool
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	w.seg, w.end = seg, 0
	return nil
}
