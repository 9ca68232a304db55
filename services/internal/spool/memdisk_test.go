package spool

import (
	"errors"
	"io"
	"os"
	"sync"
)

var errDisk = errors.New("input/output error")

// memDisk is a disk that remembers what was flushed, so that a power cut can take the rest away, and that fails on demand.
type memDisk struct {
	mu    sync.Mutex
	files map[string]*memFile
	// failSync, failWrite and failCreate make the next operations fail while they are positive.
	failSync, failWrite, failCreate int
	// shortWrite: a failing write leaves half of its bytes.
	shortWrite bool
	// busy keeps those who flush waiting until it is closed; nil: nobody waits.
	busy chan struct{}
}

func newMemDisk() *memDisk { return &memDisk{files: map[string]*memFile{}} }

type memFile struct {
	disk    *memDisk
	data    []byte
	flushed []byte
	// failSync makes the next flushes of this file fail while it is positive.
	failSync int
}

func (d *memDisk) Create(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failCreate > 0 {
		d.failCreate--
		return nil, errDisk
	}
	if _, ok := d.files[name]; ok {
		return nil, os.ErrExist
	}
	f := &memFile{disk: d}
	d.files[name] = f
	return f, nil
}

func (d *memDisk) Open(name string) (File, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.files[name]
	if !ok {
		return nil, 0, os.ErrNotExist
	}
	return f, int64(len(f.data)), nil
}

func (d *memDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for n := range d.files {
		names = append(names, n)
	}
	return names, nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return nil
}

func (d *memDisk) SyncDir() error { return nil }

// powerCut returns the disk as it is found afterwards: of every file what was flushed, and as much of the rest as keep says.
func (d *memDisk) powerCut(keep func(unflushed int) int) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newMemDisk()
	for name, f := range d.files {
		data := append([]byte(nil), f.flushed...)
		if extra := len(f.data) - len(f.flushed); extra > 0 {
			data = append(data, f.data[len(f.flushed):len(f.flushed)+keep(extra)]...)
		}
		after.files[name] = &memFile{disk: after, data: data, flushed: append([]byte(nil), data...)}
	}
	return after
}

// segments returns the names of the log's files that hold bytes.
func (d *memDisk) segments() []*memFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*memFile
	for name, f := range d.files {
		if _, ok := parseName(name); ok && len(f.data) > 0 {
			out = append(out, f)
		}
	}
	return out
}

// bytes is how much the log's files hold.
func (d *memDisk) bytes() (n int) {
	for _, f := range d.segments() {
		d.mu.Lock()
		n += len(f.data)
		d.mu.Unlock()
	}
	return n
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	var err error
	if f.disk.failWrite > 0 {
		f.disk.failWrite--
		err = errDisk
		if !f.disk.shortWrite {
			return 0, err
		}
		p = p[:len(p)/2]
	}
	if need := off + int64(len(p)); need > int64(len(f.data)) {
		f.data = append(f.data, make([]byte, need-int64(len(f.data)))...)
	}
	return copy(f.data[off:], p), err
}

func (f *memFile) Sync() error {
	if f.disk.busy != nil {
		<-f.disk.busy
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.failSync > 0 {
		f.disk.failSync--
		return errDisk
	}
	if f.failSync > 0 {
		f.failSync--
		return errDisk
	}
	f.flushed = append([]byte(nil), f.data...)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.data = f.data[:size]
	return nil
}

func (f *memFile) Close() error { return nil }
