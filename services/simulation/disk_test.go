package simulation

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hookmesh/hookmesh/services/internal/spool"
)

// memoryDisk is a gateway's disk. It outlives the gateway, as far as it was flushed: a process that dies leaves what it wrote, a
// machine that loses its power only what it flushed, and some of the rest.
type memoryDisk struct {
	hooks hooks
	dice  dice
	tally *tally
	mu    sync.Mutex
	// files are there, in the order in which they were made; known are those that the directory remembers for sure.
	files, known []*memoryFile
	// holder is who has mounted it last.
	holder *mounted
}

type memoryFile struct {
	name          string
	data, flushed []byte
}

// segment: it holds records, and what is written to it is worth a step. The reader's position is written between two steps.
func (f *memoryFile) segment() bool { return f.name != "cursor" }

// mounted is the disk as one process sees it. It is spool.Disk.
type mounted struct {
	*memoryDisk
	ctx  context.Context // whose process it is
	done atomic.Bool     // it has given the disk back
}

var errTaken = errors.New("another process has the spool open")

// mount gives the disk to a process, as the last one has left it.
func (d *memoryDisk) mount(ctx context.Context) (*mounted, error) {
	if last := d.holder; last != nil && !last.done.Load() {
		if !processOf(last.ctx).dead {
			return nil, errTaken
		}
		if chance(d.dice, 2, "the power is cut") {
			d.tally.met(metPowerCut)
			d.cut()
		}
	}
	if d.segments() > 1 {
		d.tally.met(metSeveral)
	}
	d.holder = &mounted{memoryDisk: d, ctx: ctx}
	return d.holder, nil
}

// cut takes away what was not flushed, or a part of it.
func (d *memoryDisk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var left []*memoryFile
	all := slices.Clone(d.files)
	for _, f := range d.known {
		if !slices.Contains(all, f) {
			all = append(all, f) // its removal may not have come to the disk
		}
	}
	for _, f := range all {
		if (!slices.Contains(d.files, f) || !slices.Contains(d.known, f)) && chance(d.dice, 2, "the directory forgets") {
			continue
		}
		after := &memoryFile{name: f.name, data: slices.Clone(f.flushed)}
		if extra, ok := bytes.CutPrefix(f.data, f.flushed); ok {
			after.data = append(after.data, extra[:d.dice.IntN(len(extra)+1, "kept")]...)
		} else if chance(d.dice, 2, "overwritten") {
			after.data = slices.Clone(f.data)
		}
		after.flushed = slices.Clone(after.data)
		left = append(left, after)
	}
	d.files, d.known = left, slices.Clone(left)
}

// segments counts the files that hold records.
func (d *memoryDisk) segments() (n int) {
	for _, f := range d.files {
		if f.segment() {
			n++
		}
	}
	return n
}

func (d *memoryDisk) find(name string) int {
	return slices.IndexFunc(d.files, func(f *memoryFile) bool { return f.name == name })
}

// Create implements spool.Disk.
func (m *mounted) Create(name string) (spool.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.find(name) >= 0 {
		return nil, os.ErrExist
	}
	f := &memoryFile{name: name}
	if f.segment() && m.segments() > 0 {
		m.tally.met(metRotated)
	}
	m.files = append(m.files, f)
	return &openFile{m, f}, nil
}

// Open implements spool.Disk.
func (m *mounted) Open(name string) (spool.File, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(name)
	if i < 0 {
		return nil, 0, os.ErrNotExist
	}
	return &openFile{m, m.files[i]}, int64(len(m.files[i].data)), nil
}

// List implements spool.Disk.
func (m *mounted) List() (names []string, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.files {
		names = append(names, f.name)
	}
	return names, nil
}

// Remove implements spool.Disk.
func (m *mounted) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.find(name); i >= 0 && !m.gone() {
		m.tally.met(metDrained)
		m.files = slices.Delete(m.files, i, i+1)
	}
	return nil
}

// SyncDir implements spool.Disk.
func (m *mounted) SyncDir() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gone() {
		m.known = slices.Clone(m.files)
	}
	return nil
}

// gone says whether the process can do nothing any more.
func (m *mounted) gone() bool { return processOf(m.ctx).dead || m.done.Load() }

type openFile struct {
	*mounted
	file *memoryFile
}

// ReadAt implements spool.File.
func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= int64(len(f.file.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.file.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements spool.File. What fails, or is cut off by the death of the process, may be written in part.
func (f *openFile) WriteAt(p []byte, off int64) (n int, err error) {
	if f.gone() {
		return 0, errCrashed
	}
	if n = len(p); f.file.segment() {
		if err = f.hooks.step(f.ctx, "the spool writes"); err != nil {
			n = f.dice.IntN(n+1, "written")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if need := int(off) + n; need > len(f.file.data) {
		f.file.data = append(f.file.data, make([]byte, need-len(f.file.data))...)
	}
	copy(f.file.data[off:], p[:n])
	return n, err
}

// Sync implements spool.File.
func (f *openFile) Sync() error {
	if f.gone() {
		return errCrashed
	}
	if f.file.segment() {
		if err := f.hooks.step(f.ctx, "the spool flushes"); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.file.flushed = slices.Clone(f.file.data)
	return nil
}

// Truncate implements spool.File.
func (f *openFile) Truncate(size int64) error {
	if f.gone() {
		return errCrashed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.file.data = f.file.data[:size]
	return nil
}

// Close implements spool.File.
func (f *openFile) Close() error { return nil }
