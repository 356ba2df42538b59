// Package legacybackend is a backend of the old protocol on port 7147, written from its description and apart from the
// coordinator's own codec. Unlike the published SDK it can register as any sender of any year did, and it shows every
// frame as it came, in the order in which it came.
//
// It refuses frames of unknown types: published backends crash on them, so a coordinator must not send any.
//
// Each backend has one goroutine that reads, owned by the backend: it ends with the socket, at the latest when Close is
// called.
package legacybackend

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// Frame types towards a backend.
const (
	NewState = iota
	Subscribe
	Unsubscribe
	Message
	Connected
)

const (
	sendMessage     = 0
	closeConnection = 1
	ping            = 2
)

// Frame is one frame of the coordinator.
type Frame struct {
	Type byte
	Room uint64
	User string
	Data []byte
}

func (f Frame) String() string {
	names := [...]string{"NEW_STATE", "SUBSCRIBE", "UNSUBSCRIBE", "MESSAGE", "CONNECTED"}
	return fmt.Sprintf("%s %x %s %q", names[f.Type], f.Room, f.User, f.Data)
}

// Backend is one registered backend.
type Backend struct {
	conn net.Conn
	read sync.WaitGroup

	mu      sync.Mutex
	frames  []Frame
	end     error
	changed chan struct{} // closed and replaced when the fields above change
}

// Dial connects to addr and writes first, the registration as its sender wrote it. on is called for each frame by the
// one goroutine that reads and may call Send and Kick; it may be nil.
func Dial(ctx context.Context, addr string, first []byte, on func(*Backend, Frame)) (*Backend, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	if _, err := conn.Write(first); err != nil {
		conn.Close()
		return nil, fmt.Errorf("register: %w", err)
	}
	b := &Backend{conn: conn, changed: make(chan struct{})}
	b.read.Go(func() { b.readAll(on) })
	return b, nil
}

func (b *Backend) readAll(on func(*Backend, Frame)) {
	r := bufio.NewReader(b.conn)
	for {
		f, err := next(r)
		b.mu.Lock()
		if err != nil {
			b.end = err
		} else {
			b.frames = append(b.frames, f)
		}
		close(b.changed)
		b.changed = make(chan struct{})
		b.mu.Unlock()
		if err != nil {
			b.conn.Close()
			return
		}
		if on != nil {
			on(b, f)
		}
	}
}

func next(r io.Reader) (Frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, fmt.Errorf("a frame cut in half: %w", err)
	}
	return parse(body)
}

func parse(body []byte) (Frame, error) {
	if len(body) < 1 || body[0] > Connected {
		return Frame{}, fmt.Errorf("a frame that published backends crash on: %x", body)
	}
	f := Frame{Type: body[0]}
	rest := body[1:]
	if f.Type != Connected {
		if len(rest) < 8 {
			return Frame{}, fmt.Errorf("a frame without a room: %x", body)
		}
		f.Room, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	length := 0
	for more := true; more; {
		if len(rest) == 0 {
			return Frame{}, fmt.Errorf("a frame without a user: %x", body)
		}
		length = length<<7 | int(rest[0]&0x7f)
		more, rest = rest[0]&0x80 != 0, rest[1:]
	}
	if length > len(rest) {
		return Frame{}, fmt.Errorf("a user longer than its frame: %x", body)
	}
	f.User, f.Data = string(rest[:length]), rest[length:]
	if len(f.Data) > 0 && f.Type != NewState && f.Type != Message {
		return Frame{}, fmt.Errorf("a frame with bytes behind its end: %x", body)
	}
	return f, nil
}

// Await returns the first frame at or after position from that match accepts, and the position behind it. When the
// connection has ended without one the error says how it ended.
func (b *Backend) Await(ctx context.Context, from int, match func(Frame) bool) (Frame, int, error) {
	for {
		b.mu.Lock()
		frames, end, changed := b.frames, b.end, b.changed
		b.mu.Unlock()
		for i := from; i < len(frames); i++ {
			if match(frames[i]) {
				return frames[i], i + 1, nil
			}
		}
		from = max(from, len(frames))
		if end != nil {
			return Frame{}, from, fmt.Errorf("the connection ended: %w", end)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Frame{}, from, fmt.Errorf("wait for a frame: %w; there were:\n%s", context.Cause(ctx), list(frames))
		}
	}
}

// Ended waits until the coordinator has closed the connection; the error says that it has not.
func (b *Backend) Ended(ctx context.Context) error {
	_, _, err := b.Await(ctx, 0, func(Frame) bool { return false })
	if ctx.Err() != nil {
		return err
	}
	return nil
}

// Frames are all frames so far.
func (b *Backend) Frames() []Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.frames
}

// Send sends data to a user of a room.
func (b *Backend) Send(room uint64, user string, data []byte) error {
	return b.write(sendMessage, room, user, data)
}

// Kick closes the connections of a user of a room.
func (b *Backend) Kick(room uint64, user string) error {
	return b.write(closeConnection, room, user, nil)
}

// Ping tells the coordinator that this backend lives.
func (b *Backend) Ping() error { return b.Write([]byte{0, 0, 0, 1, ping}) }

func (b *Backend) write(kind byte, room uint64, user string, data []byte) error {
	if len(user) > 127 {
		return errors.New("this backend writes users of at most 127 bytes")
	}
	body := binary.BigEndian.AppendUint64([]byte{kind}, room)
	body = append(append(body, byte(len(user))), user...)
	body = append(body, data...)
	return b.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
}

// Write writes bytes as they are.
func (b *Backend) Write(raw []byte) error {
	if _, err := b.conn.Write(raw); err != nil {
		return fmt.Errorf("write to the coordinator: %w", err)
	}
	return nil
}

// Close ends the connection and waits for the reader.
func (b *Backend) Close() {
	b.conn.Close()
	b.read.Wait()
}

func list(frames []Frame) string {
	var text strings.Builder
	for _, f := range frames[max(0, len(frames)-50):] {
		fmt.Fprintf(&text, "\t%s\n", f)
	}
	return text.String()
}
