//go:build linux && !race

package pipe

import (
	"syscall"
	"unsafe"
)

// A socket in non-blocking mode is read and written within microseconds, so these calls leave out what syscall.Read and
// syscall.Write tell the scheduler first: that the thread may block. In a process that was idle a moment before, that
// alone wakes the runtime's monitor thread by a system call of its own, at 5,000 messages a second for almost each of
// them: it was 40 % of the processor time of a message there.

func readFD(fd int, p []byte) (int, error) { return rawIO(syscall.SYS_READ, fd, p) }

func writeFD(fd int, p []byte) (int, error) { return rawIO(syscall.SYS_WRITE, fd, p) }

func rawIO(call uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
