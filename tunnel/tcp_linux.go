//go:build amd64 || arm64 || riscv64

package tunnel

import (
	"encoding/binary"
	"syscall"
	"time"
	"unsafe"
)

// Where struct tcp_info (include/uapi/linux/tcp.h) keeps what is wanted here.
const (
	tcpInfoSize    = 104
	tcpInfoLastAck = 56 // tcpi_last_ack_recv, milliseconds
	tcpInfoRTT     = 68 // tcpi_rtt, microseconds
)

// tcpInfo asks the kernel; ok is false when there is no TCP connection.
func (c *conn) tcpInfo() (info tcpInfo, ok bool) {
	t := c.tcp()
	if t == nil {
		return tcpInfo{}, false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return tcpInfo{}, false
	}
	var said [tcpInfoSize]byte
	_ = raw.Control(func(fd uintptr) {
		size := uint32(len(said))
		_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&said)), uintptr(unsafe.Pointer(&size)), 0)
		ok = errno == 0 && size >= tcpInfoRTT+4
	})
	u32 := func(at int) time.Duration { return time.Duration(binary.NativeEndian.Uint32(said[at:])) }
	return tcpInfo{lastAck: u32(tcpInfoLastAck) * time.Millisecond, rtt: u32(tcpInfoRTT) * time.Microsecond}, ok
}
