package topology

import "syscall"

// ties make a child the head of a process group of its own, and let it die when the thread that started it ends.
func ties() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
