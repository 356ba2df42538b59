package sdk

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/trunkline-edge/trunkline/wire"
)

// node is the other end of a Client: a listener that takes native clients, by
// WebSocket or TCP.
type node struct {
	ln      net.Listener
	web     bool
	clients chan *guest
}

// guest is one client connection of a node, as the node sees it.
type guest struct {
	t       testing.TB
	nc      net.Conn
	web     bool
	in      frames
	body    wire.ConnectBody
	resumed bool
	path    string
}

func newNode(t testing.TB, web bool) *node {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveNode(t, ln, web)
}

func serveNode(t testing.TB, ln net.Listener, web bool) *node {
	n := &node{ln: ln, web: web, clients: make(chan *guest, 16)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			wg.Go(func() {
				g := &guest{t: t, nc: nc, web: web}
				if g.welcome() == nil {
					n.clients <- g
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, nc := range open {
			nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return n
}

func (n *node) addr() string {
	if n.web {
		return "ws://" + n.ln.Addr().String()
	}
	return "tcp://" + n.ln.Addr().String()
}

// guest waits for the next client that has said Connect.
func (n *node) guest(t testing.TB) *guest {
	t.Helper()
	select {
	case g := <-n.clients:
		return g
	case <-time.After(patience):
		t.Fatal("no client connects")
		return nil
	}
}

// welcome reads hello and Connect.
func (g *guest) welcome() error {
	g.in.t = &plainTransport{g.nc}
	if g.web {
		up := ws.Upgrader{
			Protocol:  func(p []byte) bool { return string(p) == subprotocol },
			OnRequest: func(uri []byte) error { g.path = string(uri); return nil },
		}
		if _, err := up.Upgrade(g.nc); err != nil {
			return err
		}
		g.in.t = &webSide{nc: g.nc}
	}
	if _, err := g.in.hello(); err != nil {
		return err
	}
	var f wire.Frame
	if err := g.in.next(&f); err != nil {
		return err
	}
	g.resumed = f.Flags&wire.Resumed != 0
	payload := append([]byte(nil), f.Payload...)
	return g.body.Decode(payload)
}

// webSide reads what a client sends by WebSocket.
type webSide struct{ nc net.Conn }

func (w *webSide) read(b []byte) ([]byte, error) {
	data, _, err := wsutil.ReadClientData(w.nc)
	return append(b, data...), err
}

func (w *webSide) write(b []byte) error { return wsutil.WriteServerBinary(w.nc, b) }
func (w *webSide) close()               { w.nc.Close() }

// accept answers Connect.
func (g *guest) accept(next, down uint64) {
	body := wire.ConnectedBody{State: 5, Next: next, Down: down}
	hello, _ := wire.OurHello().Answer(wire.OurHello())
	b := wire.AppendHello(nil, hello)
	g.write(wire.AppendFrame(b, &wire.Frame{Type: wire.Connected, Payload: body.Append(nil)}))
}

// refuse answers Connect with a code.
func (g *guest) refuse(code wire.Code, reason string) {
	b := wire.AppendHello(nil, wire.OurHello())
	g.write(wire.AppendFrame(b, &wire.Frame{Type: wire.Close, Code: code, Payload: []byte(reason)}))
}

func (g *guest) write(b []byte) { _ = g.in.t.write(b) }

func (g *guest) say(all ...wire.Frame) {
	var b []byte
	for i := range all {
		b = wire.AppendFrame(b, &all[i])
	}
	g.write(b)
}

// next returns the next frame of the client.
func (g *guest) next() wire.Frame {
	g.t.Helper()
	var f wire.Frame
	_ = g.nc.SetReadDeadline(time.Now().Add(patience))
	if err := g.in.next(&f); err != nil {
		g.t.Fatalf("client's next frame: %v", err)
	}
	return f
}

// data reads one whole message.
func (g *guest) data(seq uint64) []byte {
	g.t.Helper()
	var whole []byte
	for {
		f := g.next()
		if f.Type != wire.Data || f.Seq != seq {
			g.t.Fatalf("%v %d instead of data %d", f.Type, f.Seq, seq)
		}
		if whole = append(whole, f.Payload...); f.Flags&wire.More == 0 {
			return whole
		}
	}
}
