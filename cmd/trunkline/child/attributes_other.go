//go:build !linux

package child

import "syscall"

// attributes puts the child at the head of a process group; only its standard input tells it of its parent's death.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
