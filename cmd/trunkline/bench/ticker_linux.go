package bench

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ticker wakes a goroutine at a steady, short interval. The runtime's own timers are rounded up to a millisecond when
// the process is otherwise idle, which is longer than the latencies to be measured; a timer descriptor is not.
type ticker struct {
	file *os.File
	buf  [8]byte
}

func newTicker(every time.Duration) (*ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	t := unix.NsecToTimespec(every.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: t, Value: t}, nil); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("timerfd_settime", err)
	}
	return &ticker{file: os.NewFile(uintptr(fd), "pacer")}, nil
}

// wait returns at the next tick; ticks that were missed are one.
func (t *ticker) wait() error {
	_, err := t.file.Read(t.buf[:])
	return err
}

func (t *ticker) close() { t.file.Close() }
