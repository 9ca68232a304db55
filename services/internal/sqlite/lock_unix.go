//go:build unix

package sqlite

import (
	"os"
	"syscall"
)

// lock takes a lock that ends with the file: a shared one as soon as it is free, one's own at once or not at all.
func lock(f *os.File, shared bool) error {
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if shared {
		how = syscall.LOCK_SH
	}
	return syscall.Flock(int(f.Fd()), how)
}
