package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gobwas/ws"
)

// visitor is a client of revision D that comes from an address of its choice and reads only when it is told to.
type visitor struct {
	conn net.Conn
	r    *bufio.Reader
}

// visit connects and asks for a state; it does not wait for what the node says to that.
func (a app) visit(c *coordinator, source, token, state string) (*visitor, error) {
	d := ws.Dialer{Timeout: patience, NetDial: func(_ context.Context, _, addr string) (net.Conn, error) {
		return dialFrom(source, addr)
	}}
	conn, early, _, err := d.Dial(context.Background(), "ws://"+c.web()+"/connect/"+a.id)
	if err != nil {
		return nil, fmt.Errorf("visit: %w", err)
	}
	v := &visitor{conn: conn, r: bufio.NewReader(conn)}
	if early != nil {
		v.r = early
	}
	first, err := json.Marshal(map[string]string{"stateId": state, "token": token})
	if err == nil {
		err = v.send(first)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return v, nil
}

func (v *visitor) send(data []byte) error {
	return ws.WriteFrame(v.conn, ws.MaskFrameInPlace(ws.NewBinaryFrame(data)))
}

// closed reads until the node closes the connection and returns the code.
func (v *visitor) closed() (int, error) {
	v.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		op, payload, err := v.frame()
		if err != nil {
			return 0, fmt.Errorf("wait for a close frame: %w", err)
		}
		if op == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(payload)
			return int(code), nil
		}
	}
}

// acknowledged reads the empty message with which revision D begins.
func (v *visitor) acknowledged() error {
	v.conn.SetReadDeadline(time.Now().Add(patience))
	op, payload, err := v.frame()
	if err == nil && (op != ws.OpBinary || len(payload) > 0) {
		err = fmt.Errorf("the first frame is %v with %d bytes", op, len(payload))
	}
	return err
}

// frame reads one frame of at most 1 MiB.
func (v *visitor) frame() (ws.OpCode, []byte, error) {
	h, err := ws.ReadHeader(v.r)
	if err != nil {
		return 0, nil, err
	}
	if h.Length > mebi {
		return 0, nil, fmt.Errorf("a frame of %d bytes", h.Length)
	}
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(v.r, payload)
	return h.OpCode, payload, err
}

// hangUp ends the connection without a word and without reading what is there.
func (v *visitor) hangUp() { v.conn.Close() }

// leave says goodbye and waits until the node has answered.
func (v *visitor) leave() error {
	if err := ws.WriteFrame(v.conn, ws.MaskFrameInPlace(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))); err != nil {
		return err
	}
	v.conn.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, v.r)
	return err
}
