package control_test

import (
	"testing"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// BenchmarkCall makes calls between two nodes with certificates over loopback, with a body as proposals have it: what an
// ask that another node leads pays for its way, without being decided.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name    string
		size    int
		callers int
	}{{"alone", 64, 1}, {"alone-16KiB", 16 << 10, 1}, {"many-in-flight", 64, 64}} {
		b.Run(c.name, func(b *testing.B) {
			a := newCertified()
			there, _ := a.port(b, nodeport.OS(), "b", handlers{control.Status: echo})
			_, here := a.port(b, nodeport.OS(), "a", nil)
			body := make([]byte, c.size)
			call := func() {
				if _, err := here.Call(b.Context(), there.Addr().String(), "b", control.Status, body); err != nil {
					b.Error(err)
				}
			}
			call() // dials
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			b.SetParallelism(c.callers)
			b.ResetTimer()
			if c.callers == 1 {
				for range b.N {
					call()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call()
				}
			})
		})
	}
}
