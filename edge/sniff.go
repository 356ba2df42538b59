package edge

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// firstByte waits for the first byte that the peer sends and leaves it unread, so that whoever reads the connection next
// finds it whole.
func firstByte(nc net.Conn) (byte, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, errors.New("connection has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var b [1]byte
	var n int
	var got error
	err = raw.Read(func(fd uintptr) bool {
		n, _, got = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		return !errors.Is(got, syscall.EAGAIN) && !errors.Is(got, syscall.EINTR)
	})
	switch {
	case err != nil:
		return 0, err
	case got != nil:
		return 0, got
	case n == 0:
		return 0, io.EOF
	}
	return b[0], nil
}
