package legacyclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/gobwas/ws"
)

// Dialer says where a WebSocket server is.
type Dialer struct {
	Base   string      // "ws://host:port" or "wss://host:port"
	TLS    *tls.Config // for wss
	Origin string      // sent when not empty, as browsers do
}

// WebSocket is one open WebSocket connection. Writing is safe for concurrent use.
type WebSocket struct {
	conn net.Conn
	in   *queue
	read sync.WaitGroup

	mu sync.Mutex // serialises frames
}

// Refused is the answer of a server that did not upgrade.
type Refused struct{ Status int }

func (r *Refused) Error() string { return fmt.Sprintf("refused with status %d", r.Status) }

// Open connects to a path and sends nothing.
func (d Dialer) Open(ctx context.Context, path string) (*WebSocket, error) {
	dialer := ws.Dialer{TLSConfig: d.TLS}
	if d.Origin != "" {
		dialer.Header = ws.HandshakeHeaderHTTP(http.Header{"Origin": {d.Origin}})
	}
	conn, early, _, err := dialer.Dial(ctx, d.Base+path)
	var status ws.StatusError
	if errors.As(err, &status) {
		return nil, &Refused{Status: int(status)}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d.Base, err)
	}
	var r io.Reader = conn
	if early != nil {
		r = io.MultiReader(early, conn)
	}
	w := &WebSocket{conn: conn, in: newQueue()}
	w.read.Go(func() { w.in.finish(w.readAll(bufio.NewReader(r))) })
	return w, nil
}

// JoinA joins by revision A: token, then state, both as text.
func (d Dialer) JoinA(ctx context.Context, app, token, state string) (*WebSocket, error) {
	return d.open(ctx, "/"+app, text(token), text(state))
}

// CreateA creates and joins by revision A: token as text, then the init bytes. The new state's id is the first message.
func (d Dialer) CreateA(ctx context.Context, app, token string, init []byte) (*WebSocket, error) {
	return d.open(ctx, "/"+app, text(token), binaryFrame(init))
}

// JoinB joins by revision B.
func (d Dialer) JoinB(ctx context.Context, app, token string, state uint64) (*WebSocket, error) {
	return d.open(ctx, "/"+app, binaryFrame(FirstB(token, false, state)))
}

// CreateB creates and joins by revision B. The new state's id is the first message.
func (d Dialer) CreateB(ctx context.Context, app, token string) (*WebSocket, error) {
	return d.open(ctx, "/"+app, binaryFrame(FirstB(token, true, 0)))
}

// JoinC joins by revision C.
func (d Dialer) JoinC(ctx context.Context, app, token string, state uint64) (*WebSocket, error) {
	return d.open(ctx, "/"+app, binaryFrame(FirstC(token, state)))
}

// JoinD joins by revision D. The first message of the server is its acknowledgement, which is left for the caller: some
// of the published clients swallowed it and some handed it to the application.
func (d Dialer) JoinD(ctx context.Context, app, token, state string) (*WebSocket, error) {
	first, err := json.Marshal(struct {
		State string `json:"stateId"`
		Token string `json:"token"`
	}{state, token})
	if err != nil {
		return nil, err
	}
	return d.open(ctx, "/connect/"+app, binaryFrame(first))
}

// JoinE joins by revision E: everything is in the URL.
func (d Dialer) JoinE(ctx context.Context, room, token string) (*WebSocket, error) {
	return d.open(ctx, "/"+room+"?token="+token)
}

func (d Dialer) open(ctx context.Context, path string, first ...ws.Frame) (*WebSocket, error) {
	w, err := d.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	for _, f := range first {
		if err := w.write(f); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

func text(s string) ws.Frame           { return ws.NewTextFrame([]byte(s)) }
func binaryFrame(data []byte) ws.Frame { return ws.NewBinaryFrame(data) }

// Send sends one binary message.
func (w *WebSocket) Send(data []byte) error { return w.write(binaryFrame(data)) }

// SendText sends one text message.
func (w *WebSocket) SendText(s string) error { return w.write(text(s)) }

// SendParts sends one binary message as a frame per part, with a ping between them.
func (w *WebSocket) SendParts(parts ...[]byte) error {
	for i, part := range parts {
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpBinary
		}
		if err := w.write(ws.NewFrame(op, i == len(parts)-1, part)); err != nil {
			return err
		}
		if i < len(parts)-1 {
			if err := w.write(ws.NewPingFrame([]byte("between"))); err != nil {
				return err
			}
		}
	}
	return nil
}

// Next returns the oldest message that was not asked for yet. After the last one its error is a *Closed.
func (w *WebSocket) Next(ctx context.Context) (Message, error) { return w.in.next(ctx) }

// Waiting is how many messages have arrived that nobody asked for.
func (w *WebSocket) Waiting() int { return w.in.waiting() }

// Leave says goodbye with a code, 0 for none, and closes the connection.
func (w *WebSocket) Leave(code int) {
	var body []byte
	if code != 0 {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), "")
	}
	w.write(ws.NewCloseFrame(body))
	w.Close()
}

// Close ends the connection without a word, as a lost network does, and waits for the reader.
func (w *WebSocket) Close() {
	w.conn.Close()
	w.read.Wait()
}

func (w *WebSocket) write(f ws.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ws.WriteFrame(w.conn, ws.MaskFrame(f)); err != nil {
		return fmt.Errorf("write a frame: %w", err)
	}
	return nil
}

// readAll queues messages until the connection ends and says how it ended.
func (w *WebSocket) readAll(r io.Reader) *Closed {
	var message []byte
	var kind ws.OpCode
	for {
		f, err := readFrame(r)
		if err != nil {
			return &Closed{Err: err}
		}
		switch f.Header.OpCode {
		case ws.OpPing:
			w.write(ws.NewPongFrame(f.Payload))
		case ws.OpPong:
		case ws.OpClose:
			w.write(ws.NewCloseFrame(f.Payload))
			code, reason := ws.ParseCloseFrameData(f.Payload)
			return &Closed{Code: int(code), Reason: reason}
		default:
			if f.Header.OpCode != ws.OpContinuation {
				kind = f.Header.OpCode
			}
			message = append(message, f.Payload...)
			if f.Header.Fin {
				w.in.put(Message{Text: kind == ws.OpText, Data: message})
				message = nil
			}
		}
	}
}

// maxPayload is the most that a test lets a server send in one frame.
const maxPayload = 64 << 20

func readFrame(r io.Reader) (ws.Frame, error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return ws.Frame{}, err
	}
	if h.Length > maxPayload || h.Masked {
		return ws.Frame{}, fmt.Errorf("a frame that no server may send: %+v", h)
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

// ParseState reads a state id the way the published clients did: base 36, any case, leading zeros allowed.
func ParseState(s string) (uint64, error) { return strconv.ParseUint(s, 36, 64) }
