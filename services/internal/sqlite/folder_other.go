//go:build !unix

package sqlite

import "os"

// lock does nothing where there is no advisory lock: there a backup is for a database that nobody uses.
func lock(*os.File, bool) (bool, error) { return true, nil }

// Hold does nothing where there is no advisory lock.
func Hold(*os.File) error { return nil }

// Held supposes so where nobody knows.
func Held(string) bool { return true }

// SyncFolder does nothing where folders cannot be brought to the disk.
func SyncFolder(string) error { return nil }
