// Package listing sorts a source's list of documents, however long it is, in bounded memory: sorted runs go to disk and are
// merged while they are read back.
package listing

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// Entry is one document of the list.
type Entry struct {
	ID, Version, URL string
	// Deleted: the source says that it is gone.
	Deleted bool
}

// runLength is how many entries are sorted in memory; of 100 bytes each they take a few megabytes.
const runLength = 32 << 10

// Sorter collects entries. Not for several goroutines.
type Sorter struct {
	dir  string
	run  []Entry
	runs []*os.File
	max  int
}

// New returns an empty sorter that keeps its runs in a folder of its own below dir; empty: where the system keeps temporary files.
func New(dir string) (*Sorter, error) {
	dir, err := os.MkdirTemp(dir, "hookmesh-listing-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for a source's list: %w", err)
	}
	return &Sorter{dir: dir, max: runLength}, nil
}

// Add adds an entry. Of several with the same id the last one counts.
func (s *Sorter) Add(e Entry) error {
	s.run = append(s.run, e)
	if len(s.run) < s.max {
		return nil
	}
	return s.spill()
}

// order sorts the entries in memory and keeps the last of each id.
func (s *Sorter) order() {
	slices.SortStableFunc(s.run, func(a, b Entry) int { return cmp.Compare(a.ID, b.ID) })
	kept := s.run[:0]
	for i, e := range s.run {
		if i+1 == len(s.run) || s.run[i+1].ID != e.ID {
			kept = append(kept, e)
		}
	}
	s.run = kept
}

func (s *Sorter) spill() (err error) {
	s.order()
	f, err := os.CreateTemp(s.dir, "run-")
	if err != nil {
		return fmt.Errorf("spill a source's list: %w", err)
	}
	s.runs = append(s.runs, f)
	w := bufio.NewWriterSize(f, 64<<10)
	var buf []byte
	for _, e := range s.run {
		buf = appendEntry(buf[:0], e)
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("spill a source's list: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("spill a source's list: %w", err)
	}
	s.run = s.run[:0]
	return nil
}

func appendEntry(buf []byte, e Entry) []byte {
	for _, text := range []string{e.ID, e.Version, e.URL} {
		buf = binary.AppendUvarint(buf, uint64(len(text)))
		buf = append(buf, text...)
	}
	deleted := byte(0)
	if e.Deleted {
		deleted = 1
	}
	return append(buf, deleted)
}

// Sorted yields the entries by id, each id once. It ends with an error if a run cannot be read back.
func (s *Sorter) Sorted() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s.order()
		h := &runHeap{}
		for i, f := range s.runs {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				yield(Entry{}, fmt.Errorf("read a source's list back: %w", err))
				return
			}
			r := bufio.NewReaderSize(f, 64<<10)
			h.all = append(h.all, &source{number: i, next: func() (Entry, error) { return readEntry(r) }})
		}
		at := 0
		h.all = append(h.all, &source{number: len(s.runs), next: func() (Entry, error) {
			if at == len(s.run) {
				return Entry{}, io.EOF
			}
			at++
			return s.run[at-1], nil
		}})
		if err := merge(h, func(e Entry) bool { return yield(e, nil) }); err != nil {
			yield(Entry{}, fmt.Errorf("read a source's list back: %w", err))
		}
	}
}

// merge yields the heads of sources in order; of equal ids the one of the last source.
func merge(h *runHeap, yield func(Entry) bool) error {
	all := h.all
	h.all = nil
	for _, src := range all {
		if ok, err := src.advance(); err != nil {
			return err
		} else if ok {
			h.all = append(h.all, src)
		}
	}
	heap.Init(h)
	for len(h.all) > 0 {
		newest := h.all[0].head
		for len(h.all) > 0 && h.all[0].head.ID == newest.ID {
			newest = h.all[0].head
			ok, err := h.all[0].advance()
			switch {
			case err != nil:
				return err
			case ok:
				heap.Fix(h, 0)
			default:
				heap.Pop(h)
			}
		}
		if !yield(newest) {
			return nil
		}
	}
	return nil
}

func readEntry(r *bufio.Reader) (Entry, error) {
	var texts [3]string
	for i := range texts {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			if i > 0 {
				err = errors.Join(io.ErrUnexpectedEOF, err)
			}
			return Entry{}, err
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(r, raw); err != nil {
			return Entry{}, errors.Join(io.ErrUnexpectedEOF, err)
		}
		texts[i] = string(raw)
	}
	deleted, err := r.ReadByte()
	if err != nil {
		return Entry{}, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return Entry{ID: texts[0], Version: texts[1], URL: texts[2], Deleted: deleted == 1}, nil
}

// source is a sorted run with its first unread entry.
type source struct {
	number int
	head   Entry
	next   func() (Entry, error)
}

func (s *source) advance() (bool, error) {
	e, err := s.next()
	if err == io.EOF { //nolint:errorlint // a bare EOF is the end; a wrapped one is a torn entry
		return false, nil
	}
	s.head = e
	return err == nil, err
}

// runHeap orders sources by their heads, then by age.
type runHeap struct{ all []*source }

func (h *runHeap) Len() int { return len(h.all) }
func (h *runHeap) Less(i, j int) bool {
	a, b := h.all[i], h.all[j]
	if c := cmp.Compare(a.head.ID, b.head.ID); c != 0 {
		return c < 0
	}
	return a.number < b.number
}
func (h *runHeap) Swap(i, j int) { h.all[i], h.all[j] = h.all[j], h.all[i] }

// Push implements heap.Interface.
func (h *runHeap) Push(x any) { h.all = append(h.all, x.(*source)) }

// Pop implements heap.Interface.
func (h *runHeap) Pop() any {
	last := h.all[len(h.all)-1]
	h.all = h.all[:len(h.all)-1]
	return last
}

// Close removes the runs.
func (s *Sorter) Close() error {
	var errs []error
	for _, f := range s.runs {
		errs = append(errs, f.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
