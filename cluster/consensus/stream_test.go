package consensus

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/hashicorp/raft"
)

// TestConnectionForAnotherReplicaIsClosed: one that was meant for the replica that was there before, on the same node.
func TestConnectionForAnotherReplicaIsClosed(t *testing.T) {
	f := newFabric()
	h := f.listen("here", "n.7")
	near := newStream(&Config{ID: "l.1", Addr: "there", Dial: func(ctx context.Context, addr, _ string) (net.Conn, error) {
		return f.listen("there", "l.1").dial(ctx, addr, "n.7") // whoever answers is the right node
	}})
	far := newStream(&Config{ID: "n.7", Addr: "here", Listener: h})
	defer far.wait()
	defer far.cut()
	defer near.cut()
	for id, want := range map[string]error{"n.7": nil, "n.5": errOther, "": errOther} {
		got := make(chan error, 1)
		go func() {
			conn, err := far.Accept()
			if err == nil {
				b := make([]byte, 5)
				if _, err = io.ReadFull(conn, b); err == nil && string(b) != "hello" {
					err = errors.New(string(b))
				}
			}
			got <- err
		}()
		c := &transport{}
		conn, err := near.Dial(c.key(raft.ServerID(id), "here"), callTime(OneRegion()))
		if err != nil {
			t.Fatal(err)
		}
		n, _ := conn.Write([]byte("hel"))
		m, _ := conn.Write([]byte("lo"))
		if err := <-got; !errors.Is(err, want) || err == nil && n+m != 5 {
			t.Errorf("meant for %q: %v, %d bytes written", id, err, n+m)
		}
		conn.Close()
	}
}
