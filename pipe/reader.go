package pipe

import (
	"errors"
	"io"
	"net"
)

// Reader reads a connection into pooled buffers that it holds only while
// there are unread bytes. On a Conn with a descriptor, plain or under TLS, it
// waits for the socket inside RawConn, without a buffer and with few frames on
// the stack; on any other connection it waits in Read with a buffer. It is for
// one goroutine.
type Reader struct {
	c    net.Conn
	base *Conn
	wait func(fd uintptr) bool
	buf  []byte // len is the room, unread bytes are buf[r:w]
	r, w int
	size int
	err  error
}

// NewReader returns a Reader on c whose buffers hold size bytes, rounded up
// to a class of the pool (1, 4, 16, 64, 256 KiB, 1 MiB).
func NewReader(c net.Conn, size int) *Reader {
	rd := &Reader{c: c, size: size}
	base := Base(c)
	if base != nil && base.raw != nil {
		rd.base = base
		rd.wait = rd.readPlain
		if c != net.Conn(base) {
			rd.wait = rd.readTLS
		}
	}
	return rd
}

// Buffered returns the unread bytes without reading more.
func (rd *Reader) Buffered() []byte { return rd.buf[rd.r:rd.w] }

// Unread puts bytes that were read elsewhere in front; the Reader copies them.
func (rd *Reader) Unread(p []byte) {
	if len(p) == 0 {
		return
	}
	old := rd.Buffered()
	b := append(append(TakeBuffer(max(rd.size, len(p)+len(old))), p...), old...)
	ReturnBuffer(rd.buf)
	rd.r, rd.w = 0, len(b)
	rd.buf = b[:cap(b)]
}

// Fill returns all unread bytes, at least n of them, reading as often as that
// takes. The slice is valid until the next call. Memory grows only as bytes
// arrive, fourfold at a time, so a peer has to send a good part of what it
// makes the Reader hold; the caller checks n against its own limit before.
// At the end of the stream the error is io.EOF, or io.ErrUnexpectedEOF when
// some bytes are left, and these are returned with it.
func (rd *Reader) Fill(n int) ([]byte, error) {
	for rd.w-rd.r < n {
		rd.err = nil
		var err error
		if rd.base != nil {
			err = rd.base.raw.Read(rd.wait)
		} else {
			rd.room()
			var m int
			m, err = rd.c.Read(rd.buf[rd.w:])
			rd.w += m
			if m > 0 {
				err = nil
			}
		}
		if err == nil {
			err = rd.err
		}
		if err != nil {
			return rd.failed(err)
		}
	}
	return rd.buf[rd.r:rd.w], nil
}

func (rd *Reader) failed(err error) ([]byte, error) {
	if rd.r == rd.w {
		rd.release()
	} else if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return rd.Buffered(), err
}

// Discard drops the first n unread bytes.
func (rd *Reader) Discard(n int) {
	rd.r += n
	if rd.r >= rd.w {
		rd.release()
	}
}

// Drained reports that no byte is known to be unread, so the next Fill is
// likely to wait: the moment to flush what the input has caused.
func (rd *Reader) Drained() bool { return rd.r == rd.w }

// Close returns the buffer; the connection is not touched.
func (rd *Reader) Close() { rd.release() }

func (rd *Reader) release() {
	ReturnBuffer(rd.buf)
	rd.buf, rd.r, rd.w = nil, 0, 0
}

// room makes sure that at least one byte can be read into the buffer.
func (rd *Reader) room() {
	switch {
	case rd.buf == nil:
		b := TakeBuffer(rd.size)
		rd.buf, rd.r, rd.w = b[:cap(b)], 0, 0
	case rd.w < len(rd.buf) && rd.r < len(rd.buf)/2:
	case rd.r > 0:
		rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
		rd.r = 0
	case rd.w == len(rd.buf):
		b := append(TakeBuffer(4*len(rd.buf)), rd.buf...)
		ReturnBuffer(rd.buf)
		rd.buf = b[:cap(b)]
	}
}

// readPlain is the RawConn callback for a socket; false means wait and call again.
func (rd *Reader) readPlain(fd uintptr) bool {
	rd.room()
	n, err := readSocket(int(fd), rd.buf[rd.w:])
	rd.w += n
	return rd.took(n, err)
}

// readTLS does the same through TLS, which reads the socket by Conn.Read. It
// takes all records that one read of the socket has brought.
func (rd *Reader) readTLS(fd uintptr) bool {
	rd.room()
	rd.base.rawFD, rd.base.short = int32(fd), false
	got := 0
	var err error
	for err == nil && rd.w < len(rd.buf) {
		var n int
		n, err = rd.c.Read(rd.buf[rd.w:])
		rd.w += n
		got += n
	}
	rd.base.rawFD = -1
	return rd.took(got, err)
}

// took settles one attempt. An error after some bytes comes again next time.
func (rd *Reader) took(n int, err error) bool {
	if n > 0 {
		return true
	}
	if rd.r == rd.w {
		rd.release()
	}
	if errors.Is(err, errWouldBlock) {
		return false
	}
	rd.err = err
	return true
}
