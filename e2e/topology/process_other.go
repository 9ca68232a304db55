//go:build !linux

package topology

import "syscall"

// ties make a child the head of a process group of its own. Only Linux can let it die with its parent.
func ties() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
