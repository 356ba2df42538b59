package cluster_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// TestCallsAndLinksKnowWhoCalls: what other packages send through a Node arrives with who has sent it.
func TestCallsAndLinksKnowWhoCalls(t *testing.T) {
	c := clustertest.NewCluster(t)
	type linked struct {
		from wire.NodeSession
		said string
	}
	links := make(chan linked, 1)
	c.Change = func(_ string, cfg *cluster.Config) {
		cfg.Handlers = map[control.Verb]control.Handler{
			control.Probe: func(_ context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
				return append([]byte(from.NodeID+" "), body...), nil
			},
		}
		cfg.Link = func(_ context.Context, conn net.Conn, from wire.NodeSession) {
			b := make([]byte, 5)
			if _, err := io.ReadFull(conn, b); err == nil {
				links <- linked{from, string(b)}
			}
		}
	}
	for _, name := range []string{"n1", "n2"} {
		c.Add(name, "eu").Start().Joined()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b := c.Node("n1").Get(), c.Node("n2").Get()
	c.Same()
	got, err := a.Call(ctx, b.Node(), control.Probe, []byte("x"))
	if err != nil || string(got) != "n1 x" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.Call(ctx, 4711, control.Probe, nil); !errors.Is(err, placement.ErrStale) {
		t.Errorf("call of a session that is not open: %v", err)
	}
	if _, err := a.CallNode(ctx, "n9", control.Probe, nil); !errors.Is(err, cluster.ErrNoNode) {
		t.Errorf("call of a node that is none: %v", err)
	}
	conn, err := a.DialLink(ctx, b.Node())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if l := <-links; l.from != a.Node() || l.said != "hello" {
		t.Errorf("a link of session %d says %q", l.from, l.said)
	}
}
