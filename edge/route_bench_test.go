package edge_test

import (
	"testing"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// BenchmarkRouteThereAndBack sends one message of 64 bytes at a time through Near, lane, TLS and Far and waits until the
// answer has come back the same way: what a second node adds to a message's time at least.
func BenchmarkRouteThereAndBack(b *testing.B) {
	opened, back := make(chan struct{}, 1), make(chan struct{}, 1)
	payload := make([]byte, 64)
	r := newRouted(b, func(r *routed) {
		r.onOpen = func(tunnel.Session) { opened <- struct{}{} }
		r.onData = func(ch uint32, p []byte) {
			up := r.far.Load().far.Uplink(wire.StateID(ch), 9)
			up.Consumed(len(p))
			up.ToSession(ch, 0, payload, false)
		}
		r.onSession = func(uint32, uint64) { back <- struct{}{} }
	})
	s := r.sessions(b, 1, opened)[0]
	near := r.near.Load().near
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		near.Line(s.State, 9).Data(s, uint64(i), payload, false)
		near.Flush()
		<-back
	}
}

// BenchmarkRouteBroadcast sends one message of 1 KiB at a time to everyone in a state with a thousand sessions at the other
// node.
func BenchmarkRouteBroadcast(b *testing.B) {
	opened, got := make(chan struct{}, 1000), make(chan struct{}, 1)
	r := newRouted(b, func(r *routed) {
		r.onOpen = func(tunnel.Session) { opened <- struct{}{} }
		r.onAll = func([]byte) { got <- struct{}{} }
	})
	r.sessions(b, 1000, opened)
	up, payload := r.far.Load().far, make([]byte, 1024)
	before, wires := r.links[1].Peers()[0].BytesOut, r.bytes[1].Load()
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		up.Uplink(1, 9).ToAll(0, payload, false)
		up.Flush()
		<-got
	}
	b.StopTimer()
	b.ReportMetric(float64(r.links[1].Peers()[0].BytesOut-before)/float64(b.N), "link-B/op")
	b.ReportMetric(float64(r.bytes[1].Load()-wires)/float64(b.N), "TLS-B/op")
}
