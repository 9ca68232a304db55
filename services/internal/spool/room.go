package spool

// Segments are deleted when the reader is done with them, but not the newest one, into which the next records go: an idle spool then
// flushes nothing but them. What is drained of it takes up room nevertheless, and where MaxBytes is not much more than a record,
// that room is missed. So it is given up when somebody needs it: before the records that would not fit beside it are written.

// fitsLocked tells whether size more bytes fit under the bound, and has the writer make room for them if that takes it.
func (s *Spool) fitsLocked(size int64) bool {
	if s.bytes-s.leaving+s.queued+size > s.opts.MaxBytes {
		if drained := s.drainedLocked(); s.leaving < drained && s.bytes-drained+s.queued+size <= s.opts.MaxBytes {
			s.leaving = drained
		} else {
			return false
		}
	}
	// Whoever comes while room is promised counts on it too.
	s.group.needsRoom = s.group.needsRoom || s.leaving > 0
	return true
}

// drainedLocked is how many bytes are in segments of which all was acknowledged. The newest is not one of them while records are on their
// way into it.
func (s *Spool) drainedLocked() (bytes int64) {
	for i, seg := range s.segments {
		end, busy := s.next, s.queued > s.group.bytes
		if i+1 < len(s.segments) {
			end, busy = s.segments[i+1].base, false
		}
		if end > s.cursor || busy {
			break
		}
		bytes += seg.size
	}
	return bytes
}

// makeRoom deletes what is drained, before a group is written that would not fit beside it.
func (w *pass) makeRoom() error {
	if w.seg.size > 0 && w.spool.allAcknowledged() {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	return w.spool.dropDrained()
}

func (s *Spool) allAcknowledged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor == s.next
}
