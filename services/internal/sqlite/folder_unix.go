//go:build unix

package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lock takes a lock that ends with the file: a shared one as soon as it is free, one's own at once or not at all.
func lock(f *os.File, shared bool) (locked bool, err error) {
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if shared {
		how = syscall.LOCK_SH
	}
	err = syscall.Flock(int(f.Fd()), how)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Hold marks a file as one that its process writes, until it closes the file or dies.
func Hold(f *os.File) error {
	_, err := lock(f, false)
	return err
}

// Held says whether a process writes a file. One that is not there is written by nobody.
func Held(path string) bool {
	f, err := os.Open(path) //nolint:gosec // a name of ours
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer func() { _ = f.Close() }()
	locked, err := lock(f, false)
	return err != nil || !locked
}

// SyncFolder brings the names of new files to the disk.
func SyncFolder(path string) error {
	d, err := os.Open(path) //nolint:gosec // a folder of ours
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
