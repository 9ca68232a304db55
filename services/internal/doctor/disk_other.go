//go:build !unix

package doctor

import "errors"

// Free is the free space and the size, in bytes, of the disk that a folder lies on.
func Free(string) (free, size uint64, err error) {
	return 0, 0, errors.New("how much room is left cannot be asked on this system")
}
