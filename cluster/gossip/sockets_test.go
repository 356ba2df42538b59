package gossip_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/cluster/gossip"
)

// The one test with real sockets and real time: whether they work, and that nothing of it stays.
func TestRealSocketsWorkAndNothingIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := &world{t: t}
	short := &gossip.Timing{
		Probe: 100 * time.Millisecond, ProbeTimeout: 80 * time.Millisecond, Suspicion: 3, Gossip: 20 * time.Millisecond,
		PushPull: time.Second, Stream: time.Second, Forget: time.Second, Reclaim: time.Second, Rejoin: time.Second,
		Loads: 20 * time.Millisecond,
	}
	got := make(chan gossip.Member, 1)
	cfg := w.config("a", nil)
	cfg.Network, cfg.Bind, cfg.Timing = gossip.Machine{}, "127.0.0.1:0", short
	cfg.OnLoad = func(from gossip.Member, _ []gossip.Load) {
		select {
		case got <- from:
		default:
		}
	}
	a := w.start(cfg)
	cfg = w.config("b", nil, a.Addr().String())
	cfg.Network, cfg.Bind, cfg.Timing = gossip.Machine{}, "127.0.0.1:0", short
	cfg.Loads = func() []gossip.Load { return []gossip.Load{{1, 2, 3}} }
	b := w.start(cfg)
	for _, n := range []*node{a, b} {
		n.until(20*time.Second, "both", lists("a", "b"))
	}
	select {
	case from := <-got:
		if from.Name != "b" || from.Addr != b.Addr() {
			t.Errorf("hints of %+v", from)
		}
	case <-time.After(20 * time.Second):
		t.Error("no hint came")
	}
	if err := b.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	a.until(20*time.Second, "that b left", in("b", gossip.Left))
	b.end()
	a.end()
}
