package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// greetTime bounds what the dialler of a link says first, and how long the acceptor waits for its table to know of that
// session.
const greetTime = 5 * time.Second

// Call asks the node with a session for something.
func (n *Node) Call(ctx context.Context, to wire.NodeSession, verb control.Verb, body []byte) ([]byte, error) {
	s, err := n.sessionOf(to)
	if err != nil {
		return nil, err
	}
	return n.client.Call(ctx, s.NodeAddr, s.Node, verb, body)
}

// CallNode asks the latest life of a node for something. ErrNoNode: it has no session.
func (n *Node) CallNode(ctx context.Context, node string, verb control.Verb, body []byte) ([]byte, error) {
	var latest wire.NodeSession
	for _, s := range n.table.Sessions() {
		if s.Node == node {
			latest = s.ID // they are in the order in which they were opened
		}
	}
	if latest == 0 {
		return nil, fmt.Errorf("call node %q: %w", node, ErrNoNode)
	}
	return n.Call(ctx, latest, verb, body)
}

// DialLink connects to the node with a session for a link. The other end knows which session of this node dials.
func (n *Node) DialLink(ctx context.Context, to wire.NodeSession) (net.Conn, error) {
	s, err := n.sessionOf(to)
	if err != nil {
		return nil, err
	}
	c, err := n.port.Dial(ctx, s.NodeAddr, s.Node, nodeport.Link)
	if err != nil {
		return nil, err
	}
	// The other end may be a later life of the node already: it compares.
	head := binary.BigEndian.AppendUint64(nil, uint64(n.Node()))
	if _, err := c.Write(binary.BigEndian.AppendUint64(head, uint64(to))); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("begin a link with node %s: %w", s.Node, err)
	}
	return c, nil
}

func (n *Node) sessionOf(id wire.NodeSession) (placement.Session, error) {
	s, ok := n.table.Session(id)
	if !ok {
		return s, fmt.Errorf("node session %d is not open: %w", id, placement.ErrStale)
	}
	return s, nil
}

// serveLink takes a link that another node has dialled, once it is known which session of that node it is.
func (n *Node) serveLink(ctx context.Context, conn net.Conn, peer nodeport.Peer) {
	from, err := n.greet(ctx, conn, peer)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Debug("a link was refused", "peer", peer.NodeID, "err", err)
		}
		return
	}
	n.cfg.Link(ctx, conn, from)
}

func (n *Node) greet(ctx context.Context, conn net.Conn, peer nodeport.Peer) (wire.NodeSession, error) {
	if n.cfg.Link == nil {
		return 0, errors.New("nobody takes links here")
	}
	ctx, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	var head [16]byte
	if err := conn.SetReadDeadline(time.Now().Add(greetTime)); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, err
	}
	from, to := wire.NodeSession(binary.BigEndian.Uint64(head[:])), wire.NodeSession(binary.BigEndian.Uint64(head[8:]))
	if to != n.Node() {
		return 0, fmt.Errorf("it is for node session %d, this one is %d", to, n.Node())
	}
	if err := n.table.WaitIndex(ctx, uint64(from)); err != nil {
		return 0, fmt.Errorf("wait for the table to know node session %d: %w", from, err)
	}
	if s, ok := n.table.Session(from); !ok || s.Node != peer.NodeID {
		return 0, fmt.Errorf("node session %d is not one of node %s", from, peer.NodeID)
	}
	return from, conn.SetReadDeadline(time.Time{})
}
