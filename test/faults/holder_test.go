package faults

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// holder has the certificate and key of a node, and is somebody else, on another host: what it sends, no node would.
type holder struct {
	as     string
	host   *clustertest.Host
	port   *nodeport.Port
	client *control.Client
}

// newHolder steals the certificate of a node that is a member.
func newHolder(t *testing.T, c *clustertest.Cluster, of string) *holder {
	t.Helper()
	id, err := trust.OpenIdentity(filepath.Join(c.Node(of).Dir, "node"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{as: of, host: c.Net.Host("holder-of-"+of, fmt.Sprintf("10.9.9.%s", of[1:]))}
	cfg := nodeport.Default()
	cfg.Network = h.host
	if cfg.Listener, err = h.host.Listen(":7947"); err != nil {
		t.Fatal(err)
	}
	anybody := func(trust.Peer) error { return nil }
	cfg.ServerTLS = id.ServerTLS(anybody)
	cfg.ClientTLS = func(node string) *tls.Config { return id.ClientTLS(node, anybody) }
	cfg.Peer = func(s tls.ConnectionState) (nodeport.Peer, error) {
		p, ok := trust.PeerOf(s)
		if !ok {
			return nodeport.Peer{}, errors.New("no node")
		}
		return nodeport.Peer{NodeID: p.NodeID, KeyHash: p.KeyHash, Incarnation: p.Incarnation}, nil
	}
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{
		nodeport.Control: func(_ context.Context, conn net.Conn, _ nodeport.Peer) { conn.Close() },
	}
	if h.port, err = nodeport.New(cfg); err != nil {
		t.Fatal(err)
	}
	if h.client, err = control.NewClient(control.Default(), h.port); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = h.port.Run(ctx) })
	all.Go(func() { _ = h.client.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return h
}

// call asks a node.
func (h *holder) call(to *clustertest.Node, verb control.Verb, body []byte) ([]byte, error) {
	ctx, cancel := limited(2 * time.Second)
	defer cancel()
	return h.client.Call(ctx, to.Host.Addr(clustertest.NodePort), to.Name, verb, body)
}

// asks is the body that proposes commands, as package cluster writes it.
func asks(request placement.Request, count int, commands []byte) []byte {
	b := []byte{0, 1, 3}
	b = binary.BigEndian.AppendUint64(b, uint64(request.Session))
	b = binary.BigEndian.AppendUint64(b, request.Counter)
	b = binary.BigEndian.AppendUint16(b, uint16(count))
	b = binary.BigEndian.AppendUint32(b, uint32(len(commands)))
	return append(b, commands...)
}

// propose has one command committed by a node that leads.
func (h *holder) propose(to *clustertest.Node, cmd placement.Command) (placement.Outcome, wire.Epoch, error) {
	return h.proposeMany(to, []placement.Command{cmd})
}

// proposeMany has commands committed, and returns the result of the first.
func (h *holder) proposeMany(to *clustertest.Node, cmds []placement.Command) (placement.Outcome, wire.Epoch, error) {
	var body []byte
	for _, cmd := range cmds {
		body = placement.AppendCommand(body, cmd)
	}
	b, err := h.call(to, control.Propose, asks(placement.Request{}, len(cmds), body))
	var no *control.Error
	switch {
	case errors.As(err, &no) && no.Code == control.FirstCode: // it does not lead
		return 0, 0, placement.ErrStopped
	case err != nil && errors.Is(err, control.ErrNotSent) && !errors.Is(err, control.ErrUnknown):
		return 0, 0, placement.ErrStopped
	case err != nil:
		return 0, 0, fmt.Errorf("%w: %w", placement.ErrUnknown, err)
	case len(b) != 8+2+19+30*len(cmds):
		return 0, 0, fmt.Errorf("an answer of %d bytes", len(b))
	}
	result := b[8+2+19:]
	return placement.Outcome(result[0]), wire.Epoch(binary.BigEndian.Uint64(result[2:])), nil
}

// move has a state moved.
func (h *holder) move(to *clustertest.Node, m *placement.Move) (wire.Epoch, error) {
	outcome, epoch, err := h.propose(to, m)
	switch {
	case err != nil:
		return 0, err
	case outcome == placement.Done:
		return epoch, nil
	case outcome == placement.Stale:
		return 0, placement.ErrStale
	default:
		return 0, fmt.Errorf("outcome %d", outcome)
	}
}
