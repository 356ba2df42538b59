package legacyclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// ErrFirstByte is what connect failed with in the published client when the first chunk did not begin with 0x00.
var ErrFirstByte = errors.New("unknown message type in the first chunk")

// firstChunk is how much the published client could take as one chunk.
const firstChunk = 64 << 10

// TCP is one connection on port 7148. Writing is safe for concurrent use.
type TCP struct {
	conn net.Conn
	in   *queue
	read sync.WaitGroup

	mu sync.Mutex // serialises frames
}

// DialTCP connects and writes the handshake. Like the published client it takes the whole first chunk that it reads for
// the first message, without framing, and refuses one that does not begin with 0x00.
func DialTCP(ctx context.Context, addr, token, app string, state uint64) (*TCP, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	if _, err := conn.Write(Handshake(token, app, state)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("write the handshake: %w", err)
	}
	c := &TCP{conn: conn, in: newQueue()}
	c.read.Go(func() { c.in.finish(&Closed{Err: c.readAll()}) })
	return c, nil
}

// Send sends one message.
func (c *TCP) Send(data []byte) error { return c.write(0, data) }

// Pong answers an application's ping.
func (c *TCP) Pong() error { return c.write(1, nil) }

func (c *TCP) write(kind byte, data []byte) error {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))
	frame = append(append(frame, kind), data...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.Write(frame); err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	return nil
}

// Next returns the oldest message that was not asked for yet. After the last one its error is a *Closed.
func (c *TCP) Next(ctx context.Context) (Message, error) { return c.in.next(ctx) }

// Waiting is how many messages have arrived that nobody asked for.
func (c *TCP) Waiting() int { return c.in.waiting() }

// Close ends the connection and waits for the reader.
func (c *TCP) Close() {
	c.conn.Close()
	c.read.Wait()
}

func (c *TCP) readAll() error {
	chunk := make([]byte, firstChunk)
	n, err := c.conn.Read(chunk)
	if n == 0 {
		return err
	}
	if chunk[0] != 0 {
		return fmt.Errorf("%w: %d", ErrFirstByte, chunk[0])
	}
	c.in.put(Message{Data: chunk[:n]})
	for {
		var head [4]byte
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			return err
		}
		data := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c.conn, data); err != nil {
			return err
		}
		c.in.put(Message{Data: data})
	}
}
