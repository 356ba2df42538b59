package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/trunkline-edge/trunkline/auth/logins"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// What nodes ask each other beyond what package cluster does by itself.

var errNotUp = errors.New("the node is not up yet")

// handlers answer other nodes.
func (n *node) handlers() map[control.Verb]control.Handler {
	return map[control.Verb]control.Handler{
		control.Probe: n.answerProbe,
		control.Logins: func(ctx context.Context, _ nodeport.Peer, body []byte) ([]byte, error) {
			return n.logins.Answer(ctx, body)
		},
		control.Lobbies:   n.answerLobbies,
		control.Operators: clusterView{n}.answerOperators,
	}
}

// serveLink takes a connection that another node has made for its links, and returns when it is closed.
func (n *node) serveLink(ctx context.Context, conn net.Conn, from wire.NodeSession) {
	if !n.joined.Load() {
		return // who dialled comes again
	}
	c := &closing{Conn: conn, closed: make(chan struct{})}
	n.router.ServeLink(ctx, c, from)
	select {
	case <-c.closed:
	case <-ctx.Done():
	}
}

// closing is a connection whose end can be waited for.
type closing struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

// Close closes the connection.
func (c *closing) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// probe asks another node whether the tunnel of an instance there lives: u64 instance, u32 gen; answered by one byte.
func (n *node) probe(ctx context.Context, at wire.NodeSession, instance wire.InstanceID, gen wire.Gen) (bool, error) {
	body := binary.BigEndian.AppendUint64(nil, uint64(instance))
	answer, err := n.table.Call(ctx, at, control.Probe, binary.BigEndian.AppendUint32(body, uint32(gen)))
	if err != nil {
		return false, err
	}
	return len(answer) == 1 && answer[0] == 1, nil
}

func (n *node) answerProbe(ctx context.Context, _ nodeport.Peer, body []byte) ([]byte, error) {
	switch {
	case len(body) != 12:
		return nil, fmt.Errorf("a probe of %d bytes", len(body))
	case !n.joined.Load():
		return nil, errNotUp
	}
	instance, gen := wire.InstanceID(binary.BigEndian.Uint64(body)), wire.Gen(binary.BigEndian.Uint32(body[8:]))
	if n.router.ProbeInstance(ctx, instance, gen) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

// loginPeers are the login stores of the other nodes, and a channel that is closed when there may be others.
func (n *node) loginPeers() ([]logins.Peer, <-chan struct{}) {
	table := n.table.Table()
	changed := table.Changed()
	var out []logins.Peer
	for name := range latestSessions(table) {
		if name == n.settings.NodeID {
			continue
		}
		out = append(out, logins.Peer{Name: name, Ask: func(ctx context.Context, question []byte) ([]byte, error) {
			to, ok := latestSessions(table)[name]
			if !ok {
				return nil, fmt.Errorf("node %s has no session", name)
			}
			return n.table.Call(ctx, to.ID, control.Logins, question)
		}})
	}
	return out, changed
}

// latestSessions answers the newest session of every node that has one, by the node's name.
func latestSessions(table *placement.Table) map[string]placement.Session {
	out := map[string]placement.Session{}
	for _, s := range table.Sessions() { // oldest first
		out[s.Node] = s
	}
	return out
}
