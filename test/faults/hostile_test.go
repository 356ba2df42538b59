package faults

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

const statusVerb = control.Status

// denied says whether a node has answered that it will not do it.
func denied(err error) bool { return errors.As(err, new(*control.Error)) }

// TestHolderOfACertificate: of a node without a vote. Who has it speaks for other nodes, forges proposals and sends what is
// too long: that is refused, whoever is asked, and the cluster goes on.
func TestHolderOfACertificate(t *testing.T) {
	tell(t, 3, func(w *world) {
		w.rest()
		extra := w.Add("n4", "eu").Start() // the fourth has no vote
		extra.Joined()
		w.load = newLoad(w)
		before := w.sessions()
		h := newHolder(w.t, w.Cluster, "n4")
		leader := w.Leader()
		victim := w.others(leader)[0]
		if victim == extra {
			victim = w.others(leader)[1]
		}
		for name, attack := range h.impersonations(before, victim) {
			for _, to := range []*clustertest.Node{leader, victim} {
				if _, err := h.call(to, attack.verb, attack.body); !denied(err) {
					w.t.Errorf("%s, at the leader %v: %v", name, to == leader, err)
				}
			}
		}
		for name, body := range forgeries(w.Rand) {
			if _, err := h.call(leader, control.Propose, body); !denied(err) {
				w.t.Errorf("%s: %v", name, err)
			}
		}
		h.absurdLengths(w.t, leader)
		h.nonsense(w, leader)
		for _, p := range leader.Get().Peers() {
			if p.Node == "n4" && p.Voter {
				w.t.Error("it has a vote")
			}
		}
		w.goOn(50)
		w.keep(before, w.All()...)
	})
}

type attack struct {
	verb control.Verb
	body []byte
}

func text(dst []byte, s string) []byte { return append(append(dst, byte(len(s))), s...) }

// impersonations are what a node may ask for itself, asked for another.
func (h *holder) impersonations(sessions map[string]wire.NodeSession, victim *clustertest.Node) map[string]attack {
	session := binary.BigEndian.AppendUint64(nil, uint64(sessions[victim.Name]))
	server := victim.Get().OwnStatus().Server
	open := &placement.OpenSession{NodeID: victim.Name, NodeAddr: "10.9.9.4:7947", Key: [32]byte{1}, Proto: 1}
	mine := &placement.OpenSession{NodeID: h.as, NodeAddr: "10.9.9.4:7947", Key: [32]byte{1}, Proto: 1}
	put := &placement.PutKey{ID: "k", Session: sessions[victim.Name]}
	ask := func(q placement.Request, cmds ...placement.Command) attack {
		var b []byte
		for _, cmd := range cmds {
			b = placement.AppendCommand(b, cmd)
		}
		return attack{control.Propose, asks(q, len(cmds), b)}
	}
	return map[string]attack{
		"renewing another's session":            {control.Renew, text(binary.BigEndian.AppendUint64(append([]byte(nil), session...), 1), server)},
		"entering as another's replica":         {control.Enter, text(text(nil, server), "10.9.9.4:7947")},
		"leaving for another":                   {control.Leave, text(append([]byte(nil), session...), victim.Name)},
		"opening another's session":             ask(placement.Request{}, open),
		"opening one with another key":          ask(placement.Request{}, mine),
		"opening another's behind one's own":    ask(placement.Request{}, put, open),
		"a request of another's session":        ask(placement.Request{Session: sessions[victim.Name], Counter: 1 << 40}, put),
		"giving itself what signs certificates": {control.Authority, []byte("-----BEGIN PRIVATE KEY-----")},
		"a call that nobody knows":              {control.Verb(99), nil},
	}
}

// forgeries are proposals that no node makes.
func forgeries(r *rand.Rand) map[string][]byte {
	one := placement.AppendCommand(nil, &placement.Firm{App: app, State: 1, Epoch: 1})
	long := make([]byte, 0, 300<<10)
	count := 0
	for len(long) < 300<<10 {
		long = append(long, one...)
		count++
	}
	request := placement.AppendCommand(nil, &placement.Request{Session: 1, Counter: 1})
	unknown := append([]byte{250}, one[1:]...)
	return map[string][]byte{
		"300 KiB of commands":      asks(placement.Request{}, count, long),
		"300 KiB of one command":   asks(placement.Request{}, 1, append(one, make([]byte, 300<<10)...)),
		"an unknown command":       asks(placement.Request{}, 1, unknown),
		"fewer commands than said": asks(placement.Request{}, 2, one),
		"no command":               asks(placement.Request{}, 0, nil),
		"a request among commands": asks(placement.Request{}, 2, append(request, one...)),
		"a cluster formed anew":    asks(placement.Request{}, 1, placement.AppendCommand(nil, &placement.Form{Generation: 1 << 20, Name: "x"})),
		"a new generation":         asks(placement.Request{}, 1, placement.AppendCommand(nil, &placement.Recover{Generation: 1 << 20})),
		"more asks than there are": {255, 255, 3},
		"bytes":                    binary.BigEndian.AppendUint64(nil, r.Uint64()),
	}
}

// absurdLengths sends heads of frames that say they are very long. They are closed, and take no memory.
func (h *holder) absurdLengths(t *testing.T, to *clustertest.Node) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, length := range []uint32{1<<20 + 14, 100 << 20, 1<<32 - 1} {
		ctx, cancel := limited(5 * time.Second)
		conn, err := h.port.Dial(ctx, to.Host.Addr(clustertest.NodePort), to.Name, nodeport.Control)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		frame := binary.BigEndian.AppendUint32(nil, length)
		frame = binary.BigEndian.AppendUint64(frame, 1)
		frame = binary.BigEndian.AppendUint32(append(frame, byte(control.Propose)), 1000)
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(frame); err != nil {
			t.Errorf("a length of %d: %v", length, err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.As(err, new(interface{ Timeout() bool })) {
			var late interface{ Timeout() bool }
			if errors.As(err, &late) && late.Timeout() {
				t.Errorf("a length of %d is waited for", length)
			}
		}
		conn.Close()
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("%d MiB were taken", took>>20)
	}
}

// nonsense sends proposals of which some bytes were changed. What happens to be one is one; no node stops.
func (h *holder) nonsense(w *world, to *clustertest.Node) {
	good := asks(placement.Request{}, 1, placement.AppendCommand(nil, &placement.Move{App: app, State: 1, Expect: 1, To: 1}))
	for range longer(300, 5000) {
		b := append([]byte(nil), good...)
		for range 1 + w.Rand.IntN(4) {
			b[w.Rand.IntN(min(len(b), 30))] ^= byte(1 << w.Rand.IntN(8))
		}
		_, _ = h.call(to, control.Propose, b[:1+w.Rand.IntN(len(b))])
	}
}
