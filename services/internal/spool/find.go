package spool

import (
	"context"
	"errors"
	"os"
	"slices"
)

// Found is a record that Find came across.
type Found struct {
	Record Record
	// Acknowledged: the reader has passed it on. Such records are found until their segment is deleted.
	Acknowledged bool
}

// Find returns the newest record that is wanted, or nil. The records are read from the disk, up to all that the spool holds, a
// segment at a time; calls wait for each other. It may be called while others append, read and acknowledge.
func (s *Spool) Find(ctx context.Context, wanted func(Record) bool) (*Found, error) {
	select {
	case s.finding <- struct{}{}:
		defer func() { <-s.finding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	segments, sizes := slices.Clone(s.segments), make([]int64, len(s.segments))
	for i, seg := range segments {
		sizes[i] = seg.size
	}
	s.mu.Unlock()
	for i, seg := range slices.Backward(segments) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, err := readAt(seg, 0, sizes[i])
		if errors.Is(err, os.ErrClosed) {
			break // it was drained meanwhile, and so was everything before it
		}
		if err != nil {
			return nil, err
		}
		if found := s.findIn(data, seg.salt, wanted); found != nil {
			return found, nil
		}
	}
	return nil, nil
}

// findIn returns the last record of a segment's data that is wanted, or nil. Damage is passed over: the reader reports it.
func (s *Spool) findIn(data []byte, salt uint64, wanted func(Record) bool) *Found {
	var found *Found
	var pos Pos
	for len(data) > 0 {
		f, err := parse(data, salt)
		if err != nil {
			skip := nextCandidate(data, salt, f)
			if skip < 0 {
				break
			}
			data = data[skip:]
			continue
		}
		if rec, err := decode(f.payload); err == nil && wanted(rec) {
			found, pos = &Found{Record: rec}, f.pos
		}
		data = data[f.size:]
	}
	if found != nil {
		s.mu.Lock()
		found.Acknowledged = pos < s.cursor
		s.mu.Unlock()
	}
	return found
}
