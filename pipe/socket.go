package pipe

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Read reads from the connection below. Inside a Reader's callback it does not
// wait, and says so with a temporary net.Error, which crypto/tls passes on
// without ending the TLS connection.
func (c *Conn) Read(p []byte) (int, error) {
	if c.rawFD < 0 {
		if c.ahead >= 0 && len(p) > 0 {
			p[0], c.ahead = byte(c.ahead), -1
			return 1, nil
		}
		return c.Conn.Read(p)
	}
	if c.short || len(p) == 0 {
		return 0, errWouldBlock
	}
	n, err := readSocket(int(c.rawFD), p)
	c.short = n < len(p)
	return n, err
}

// PeekByte waits for the first byte and leaves it to be read: it tells protocols apart before anyone reads. It is for
// the goroutine that reads, and for a Conn that no Reader has read from.
func (c *Conn) PeekByte() (byte, error) {
	if c.ahead >= 0 {
		return byte(c.ahead), nil
	}
	var b [1]byte
	if c.raw == nil {
		if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
			return 0, err
		}
		c.ahead = int16(b[0])
		return b[0], nil
	}
	var n int
	var fault error
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			n, _, fault = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			if fault != syscall.EINTR {
				return fault != syscall.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case fault != nil:
		return 0, os.NewSyscallError("recvfrom", fault)
	case n == 0:
		return 0, io.EOF
	}
	return b[0], nil
}

// trySocket is the RawConn callback: it writes as much of c.out as the socket
// takes. It returns false, to be called again when the socket is writable,
// only if c.outWaits and nothing was taken.
func (c *Conn) trySocket(fd uintptr) bool {
	progress := false
	for len(c.out) > 0 {
		n, err := writeFD(int(fd), c.out)
		switch {
		case n > 0:
			short := n < len(c.out)
			c.out, progress = c.out[n:], true
			if short {
				return true
			}
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return progress || !c.outWaits
		default:
			c.outErr = syscall.EIO
			if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // it is never wrapped
				c.outErr = errno
			}
			return true
		}
	}
	return true
}

// readSocket is one read that does not wait.
func readSocket(fd int, p []byte) (int, error) {
	for {
		n, err := readFD(fd, p)
		switch {
		case n > 0:
			return n, nil
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, errWouldBlock
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		default:
			return 0, io.EOF
		}
	}
}

// wouldBlock is temporary in the sense of net.Error.
type wouldBlock struct{}

var errWouldBlock net.Error = wouldBlock{}

func (wouldBlock) Error() string   { return "pipe: would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }
