// Package spool is a bounded, crash-safe log of records on the local disk. Whoever appends gets an answer only after the
// records were flushed to the disk; all callers that wait at the same time share one flush. One reader drains the log in
// order and acknowledges what it has passed on; drained segments are deleted.
//
// What was acknowledged by Append comes out of Read, in order, at least once, whatever happens to the process in between. A write
// that was cut off by a crash is truncated when the log is opened: nobody was told that it was safe. If the disk itself damages a
// record, reading finds the next good one, and what was skipped is reported.
package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

var (
	// ErrFull says that the records do not fit under Options.MaxBytes beside what waits. There is room again when the reader has drained a
	// segment.
	ErrFull = errors.New("the spool is full")
	// ErrTooLarge says that one record is larger than MaxRecordBytes.
	ErrTooLarge = errors.New("the record is too large for the spool")
	// ErrFailed says that a flush failed. After that nobody knows what the disk holds, so that nothing is acknowledged until the
	// spool is opened again. What was safe before can still be read.
	ErrFailed = errors.New("the spool's disk failed; restart to open it again")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("the spool is closed")
)

// MaxRecordBytes bounds one encoded record.
const MaxRecordBytes = 64 << 20

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is what the spool keeps. Its slices must not be changed after they were given to Append.
type Record struct {
	Topic   string
	Key     []byte
	Value   []byte
	Headers []Header
}

// Pos counts records from the beginning of the spool's life: the number of a record, or of the one after a batch.
type Pos uint64

// Options tune a spool.
type Options struct {
	// MaxBytes bounds the segments on disk; 0: 1 GiB.
	MaxBytes int64
	// SegmentBytes is when a new segment is begun; 0: a sixteenth of MaxBytes, at most 16 MiB.
	SegmentBytes int64
	// CursorSync is how much progress of the reader a power cut may undo; 0: 1 s. The death of the process undoes none.
	CursorSync time.Duration
	// Logger hears of damage; nil: nobody does.
	Logger *slog.Logger
	// Now is the clock for CursorSync; nil: time.Now.
	Now func() time.Time
	// Disk is where the files are; nil: the directory that is opened, which is then locked against other processes. A Disk of one's own
	// is not locked.
	Disk Disk
}

func (o *Options) complete(dir string) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = min(16<<20, max(o.MaxBytes/16, 1))
	}
	if o.CursorSync == 0 {
		o.CursorSync = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Disk == nil {
		o.Disk = osDisk{dir}
	}
}

// Stats is how full a spool is.
type Stats struct {
	// Records wait to be acknowledged by the reader.
	Records int64
	// Bytes are on disk, without segments of which every record was acknowledged: they go when their room is needed.
	Bytes int64
	// MaxBytes is the bound of Bytes.
	MaxBytes int64
	// Lost counts the records that the disk damaged, since the spool was opened.
	Lost int64
}

// Spool is an open log. Append may be called by many goroutines; Read and Ack by one.
type Spool struct {
	opts Options

	mu       sync.Mutex
	segments []*segment // ascending; the last one is written
	next     Pos        // of the next record to become durable
	cursor   Pos        // of the first record that is not acknowledged
	bytes    int64      // on disk and durable
	queued   int64      // bytes that wait to be written
	leaving  int64      // of bytes: what the writer deletes before it writes what waits; see room.go
	lost     int64
	group    *group // collects callers until the writer takes it
	failed   error
	closed   bool

	dropping sync.Mutex // held while drained segments are deleted, by the reader or the writer

	wake   chan struct{} // to the writer: the group is not empty, or closed
	arrive chan struct{} // to the reader: there are new durable records, or closed
	done   chan struct{} // the writer has ended

	finding chan struct{} // held by the one Find that reads

	reader  reader
	marks   cursorFile
	unlock  func() error
	damages []Damage
}

// group is the callers that share one flush.
type group struct {
	frames    [][]byte
	bytes     int64
	needsRoom bool // it fits only without what is drained
	done      chan struct{}
	err       error
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// Open opens the spool in dir, which is created if need be, and repairs what a crash has left. Only one process may have it open.
func Open(dir string, opts Options) (*Spool, error) {
	custom := opts.Disk != nil
	opts.complete(dir)
	s := &Spool{
		opts: opts, group: newGroup(), unlock: func() error { return nil },
		wake: make(chan struct{}, 1), arrive: make(chan struct{}, 1), done: make(chan struct{}),
		finding: make(chan struct{}, 1),
	}
	if !custom {
		unlock, err := lockDir(dir)
		if err != nil {
			return nil, fmt.Errorf("open the spool in %s: %w", dir, err)
		}
		s.unlock = unlock
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool in %s: %w", dir, err), s.closeFiles())
	}
	go s.write()
	return s, nil
}

// Append writes records and returns after they are safe on the disk, together, in their order. If ctx ends first, they may
// be written nevertheless. ErrFull, ErrTooLarge, ErrFailed and ErrClosed say that they are not acknowledged.
func (s *Spool) Append(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to the spool: %w", err)
	}
	frames, err := encode(records)
	if err != nil {
		return err
	}
	g, err := s.enqueue(frames)
	if err != nil {
		return err
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("append to the spool: %w", ctx.Err())
	}
}

// enqueue adds frames to the group that the writer takes next.
func (s *Spool) enqueue(frames []byte) (*group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(frames))
	switch {
	case s.closed:
		return nil, ErrClosed
	case s.failed != nil:
		return nil, s.failed
	case !s.fitsLocked(size):
		return nil, ErrFull
	}
	g := s.group
	g.frames = append(g.frames, frames)
	g.bytes += size
	s.queued += size
	notify(s.wake)
	return g, nil
}

// notify wakes whoever waits on a channel of capacity 1.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Stats tells how full the spool is.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Records: int64(s.next - s.cursor), Bytes: s.bytes - s.drainedLocked(), MaxBytes: s.opts.MaxBytes, Lost: s.lost}
}

// Empty reports whether every record was acknowledged by the reader. What waits to be written to a spool that has failed is refused, so that nothing
// waits behind it.
func (s *Spool) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next == s.cursor && (s.queued == 0 || s.failed != nil)
}

// Err is nil, or the reason why the spool acknowledges nothing any more.
func (s *Spool) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Close answers the callers that still wait, remembers how far the reader came and closes the files. It may be called twice.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	notify(s.wake)
	s.mu.Unlock()
	<-s.done
	notify(s.arrive)
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.marks.sync(), s.closeFiles())
}

// closeFiles closes what is open and gives the directory free.
func (s *Spool) closeFiles() error {
	var errs []error
	for _, seg := range s.segments {
		errs = append(errs, seg.file.Close())
	}
	errs = append(errs, s.marks.close(), s.unlock())
	return errors.Join(errs...)
}
