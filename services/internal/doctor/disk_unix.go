//go:build unix

package doctor

import "golang.org/x/sys/unix"

// Free is the free space and the size, in bytes, of the disk that a folder lies on.
func Free(dir string) (free, size uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil //nolint:unconvert,gosec // the types differ between systems
}
