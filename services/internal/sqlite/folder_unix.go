//go:build unix

package sqlite

import (
	"errors"
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

// SyncFolder brings the names of new files to the disk.
func SyncFolder(path string) error {
	d, err := os.Open(path) //nolint:gosec // a folder of ours
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
