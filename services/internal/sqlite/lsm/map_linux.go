package lsm

import (
	"fmt"
	"os"
	"syscall"
)

// mapFile maps a file to be read. What was written just now is mapped at once, because it is in memory; of an older file each part when it is
// read first, because most of it may be on the disk. An error of the disk ends the process, as with everything that is mapped.
func mapFile(f *os.File, fresh bool) (all []byte, unmap func([]byte), err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() == 0 || info.Size() != int64(int(info.Size())) {
		return nil, nil, fmt.Errorf("%d bytes cannot be mapped", info.Size())
	}
	flags := syscall.MAP_SHARED
	if fresh {
		flags |= syscall.MAP_POPULATE
	}
	all, err = syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, flags)
	return all, func(all []byte) { _ = syscall.Munmap(all) }, err
}
