package tunnel

import (
	"context"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// Each of many messages finds room when it begins; when all of them grow, those go for which there is none, the rest
// arrive, and what they take together never passes the bound.
func TestUnfinishedMessagesThatGrowStayWithinTheirBound(t *testing.T) {
	cfg := testConfig()
	cfg.MaxMessage, cfg.MaxAssembly = 1<<20, 4<<20
	ours, theirs := sockets(t)
	register := wire.RegisterBody{Credit: window, Secret: []byte("s"), StoreID: []byte("i")}
	hello := wire.AppendHello(nil, wire.OurHello())
	if _, err := theirs.Write(wire.AppendFrame(hello, &wire.Frame{Type: wire.Register, Payload: register.Append(nil)})); err != nil {
		t.Fatal(err)
	}
	_, tun, err := Accept(context.Background(), wrap(ours, cfg), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	n, sink := tun.(*native), newNotes()
	arrived := 0
	sink.onAll = func(b []byte) {
		if len(b) == cfg.MaxMessage {
			arrived++
		}
	}
	const states, fragment = 32, 32 << 10
	f := wire.Frame{Type: wire.Broadcast, Flags: wire.More, Epoch: 1, Size: uint32(cfg.MaxMessage), Payload: make([]byte, fragment)}
	most := 0
	for sent := fragment; sent <= cfg.MaxMessage; sent += fragment {
		if sent == cfg.MaxMessage {
			f.Flags &^= wire.More
		}
		for i := range states {
			f.State = wire.StateID(i)
			tun.Line(f.State, f.Epoch)
			frame := f
			if err := n.take(&frame, sink); err != nil {
				t.Fatal(err)
			}
			most = max(most, n.parts)
		}
		f.Flags |= wire.Cont
	}
	dropped := int(cfg.Counters.dropped[dropBudget].Load())
	if most > cfg.MaxAssembly {
		t.Errorf("unfinished messages took %d bytes, %d are allowed", most, cfg.MaxAssembly)
	}
	if arrived == 0 || dropped == 0 || arrived+dropped != states {
		t.Errorf("of %d messages %d arrived and %d were dropped", states, arrived, dropped)
	}
	if n.parts != 0 || len(n.partial) != 0 {
		t.Errorf("%d bytes of %d messages are left", n.parts, len(n.partial))
	}
}
