package edge

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// nullTunnel takes everything and forgets it.
type nullTunnel struct {
	tunnel.Tunnel
	kind tunnel.Kind
}

func (t nullTunnel) Kind() tunnel.Kind                       { return t.kind }
func (nullTunnel) Line(wire.StateID, wire.Epoch) tunnel.Line { return nullLine{} }
func (nullTunnel) Flush()                                    {}
func (nullLine) New(string, []byte)                          {}
func (nullLine) Open(*tunnel.Session)                        {}
func (nullLine) Data(*tunnel.Session, uint64, []byte, bool)  {}
func (nullLine) Close(*tunnel.Session, uint64, wire.Code)    {}
func (nullLine) Admit(int) <-chan struct{}                   { return nil }
func (nullLine) Released()                                   {}
func (nullLine) NotOwner()                                   {}
func (nullLine) End()                                        {}
func (nullOut) Registered()                                  {}
func (nullOut) Deliver([]byte, bool)                         {}
func (nullOut) Acked(uint64)                                 {}
func (nullOut) Flush()                                       {}
func (nullOut) Close(wire.Code, string)                      {}
func (nullOut) Queued() int                                  { return 0 }

type (
	nullLine struct{}
	nullOut  struct{}
)

// benchRoom is a Router with one state on a null tunnel and sessions in it.
func benchRoom(b *testing.B, kind tunnel.Kind, sessions int) (*attachment, wire.Epoch, []client.Seat) {
	p := newFakePlacer(&testing.T{})
	app := wire.AppIDOf(secret)
	reg := &placement.Register{App: app, StoreID: "s", Native: kind == tunnel.Native, Node: p.node}
	if reg.Native {
		reg.Incarnation[0] = 1
	}
	id := p.apply(reg).Instance
	epoch := p.apply(&placement.Create{App: app, State: 7, Instance: id, Mode: placement.FirmRow}).Epoch
	r, err := New(Default(), Deps{Placer: p, Log: slog.New(slog.DiscardHandler), Tunnel: tunnel.Default()})
	if err != nil {
		b.Fatal(err)
	}
	in, _ := p.table.Instance(id)
	h := r.makeHome(&in)
	tun := nullTunnel{kind: kind}
	a := &attachment{router: r, home: h, tun: tun, local: tun, gen: 1, legacy: kind == tunnel.Legacy, ended: make(chan struct{})}
	h.attach(a)
	var seats []client.Seat
	for i := range sessions {
		seat, refusal := r.Join(context.Background(), client.JoinRequest{App: app, State: 7, User: fmt.Sprint(i), Next: 1, Out: nullOut{}})
		if refusal != nil {
			b.Fatal(refusal.Reason)
		}
		seats = append(seats, seat)
		if kind == tunnel.Native {
			a.SessionAccepted(uint32(i + 1))
		}
	}
	a.Drained()
	return a, epoch, seats
}

// The way of a frame through the router on one node; no allocation in either direction.
func BenchmarkFrame(b *testing.B) {
	payload := make([]byte, 64)
	b.Run("down", func(b *testing.B) {
		_, _, seats := benchRoom(b, tunnel.Legacy, 1)
		b.ReportAllocs()
		for b.Loop() {
			_ = seats[0].Down(payload, false)
			seats[0].Drained()
		}
	})
	b.Run("up/user", func(b *testing.B) {
		a, _, _ := benchRoom(b, tunnel.Legacy, 100)
		user := []byte("42")
		b.ReportAllocs()
		for b.Loop() {
			a.ToUser(7, 0, user, payload)
			a.Drained()
		}
	})
	b.Run("up/all of 100", func(b *testing.B) {
		a, epoch, _ := benchRoom(b, tunnel.Native, 100)
		b.ReportAllocs()
		for b.Loop() {
			a.ToAll(7, epoch, 0, payload, false)
			a.Drained()
		}
	})
}

// A carrier that goes nowhere.
type nullCarrier struct{}

func (nullCarrier) Send([]byte) error { return nil }
func (nullCarrier) Pending() int      { return 0 }

// The way of a guest's frame through the owner's router, from the route to the tunnel and back.
func BenchmarkGuestFrame(b *testing.B) {
	payload := make([]byte, 64)
	a, epoch, _ := benchRoom(b, tunnel.Legacy, 0)
	p := &peer{
		router: a.router, node: 99, instance: a.home.id, gen: 1, far: tunnel.NewFar(nullCarrier{}, tunnel.Default()),
		parties: make(map[wire.StateID]*party), guests: make(map[uint32]*session),
	}
	p.far.Uplink(7, epoch)
	p.Open(tunnel.Session{Channel: 1, State: 7, Epoch: epoch, User: "42", Conn: wire.ConnID{Node: 99, Seq: 1}, Next: 1})
	b.Run("down", func(b *testing.B) {
		b.ReportAllocs()
		seq := uint64(0)
		for b.Loop() {
			seq++
			p.Data(1, seq, payload, false)
			p.Drained()
		}
	})
	b.Run("up", func(b *testing.B) {
		b.ReportAllocs()
		user := []byte("42")
		const window = 1000 // messages, after which the other node gives the credit back
		credit := wire.AppendFrame(nil, &wire.Frame{Type: wire.Credit, State: 7, Size: window * uint32(len(payload))})
		for i := 0; b.Loop(); i++ {
			a.ToUser(7, 0, user, payload)
			a.Drained()
			if i%window == window-1 {
				_ = p.Take(credit)
			}
		}
	})
}
