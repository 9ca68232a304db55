package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// File is what the spool needs of a file. It may be called by several goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns after everything written is on the disk.
	Sync() error
	// Truncate cuts the file.
	Truncate(size int64) error
	Close() error
}

// Disk is what the spool needs of a directory: one of the operating system, or, in tests, one that fails and forgets as they say.
type Disk interface {
	// Create makes a new file; it must not exist.
	Create(name string) (File, error)
	// Open opens a file and says how large it is. The error is os.ErrNotExist if there is none.
	Open(name string) (File, int64, error)
	// List names the files, in any order.
	List() ([]string, error)
	Remove(name string) error
	// SyncDir returns after creations and removals are on the disk.
	SyncDir() error
}

// osDisk is a directory of the operating system.
type osDisk struct{ dir string }

func (d osDisk) Create(name string) (File, error) {
	return os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func (d osDisk) Open(name string) (File, int64, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (d osDisk) List() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (d osDisk) Remove(name string) error { return os.Remove(filepath.Join(d.dir, name)) }

func (d osDisk) SyncDir() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lockDir creates the directory and takes it for this process.
func lockDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("another process has it open: %w", err), f.Close())
	}
	return f.Close, nil
}
