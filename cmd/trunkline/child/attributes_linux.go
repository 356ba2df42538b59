package child

import "syscall"

// attributes puts the child at the head of a process group and ties its life to the starting thread's.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
