//go:build !unix

package spool

import "os"

// flock does nothing where there is no advisory lock: there the operator has to start only one process.
func flock(*os.File) error { return nil }
