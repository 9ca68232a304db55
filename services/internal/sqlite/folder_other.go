//go:build !unix

package sqlite

import "os"

// lock does nothing where there is no advisory lock: there a backup is for a database that nobody uses.
func lock(*os.File, bool) (bool, error) { return true, nil }

// SyncFolder does nothing where folders cannot be brought to the disk.
func SyncFolder(string) error { return nil }
