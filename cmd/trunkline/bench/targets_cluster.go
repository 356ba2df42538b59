package bench

import (
	"context"
	"fmt"
)

// The targets of two nodes, of creates and of the table.

// twoNodes are how many nodes the data plane is measured with: a frame passes two, however many there are.
const twoNodes = 2

// far returns the cluster whose clients and backend are at different nodes, and starts it when it is asked for first.
func (b *bench) far(ctx context.Context, f *field) (*contender, error) {
	if f.far != nil {
		return f.far, nil
	}
	const perRoom = 10
	c, err := b.cluster(ctx, twoNodes, perRoom, backendConfig{}, false)
	f.far = c
	return c, err
}

// twoNodesTarget is P12.
func (b *bench) twoNodesTarget(ctx context.Context, f *field) ([]Target, error) {
	far, err := b.far(ctx, f)
	if err != nil {
		return nil, err
	}
	var aims []aim
	for _, c := range []struct {
		size int
		name string
		cpu  float64
	}{{64, "64 B", 1.3}, {1024, "1 KiB", 1.5}} {
		r, err := b.cell(ctx, "two nodes beside one, 1000 x 8, "+c.name, 1000, 8, c.size, 0, f.legacy, far)
		if err != nil {
			return nil, err
		}
		aims = append(aims,
			atLeast(c.name+": msgs/s over one node", over(r[far], r[f.legacy], perSecond), 0.9),
			atMost("CPU of both over one's", over(r[far], r[f.legacy], cpu), c.cpu))
	}
	return []Target{judge("P12", "1000 x 8, backend at one node, clients at the other", aims...)}, nil
}

// hopTarget is P13.
func (b *bench) hopTarget(ctx context.Context, f *field) ([]Target, error) {
	far, err := b.far(ctx, f)
	if err != nil {
		return nil, err
	}
	r, err := b.cell(ctx, "two nodes beside one, 1 x 1, 64 B", 1, 1, 64, 0, f.legacy, far)
	if err != nil {
		return nil, err
	}
	added := differenceOf(column(r[far].Rounds, p50), column(r[f.legacy].Rounds, p50))
	return []Target{judge("P13", "1 x 1, 64 B, the second hop", atMost("µs added to p50", added, 100))}, nil
}

// linkTarget is P14.
func (b *bench) linkTarget(ctx context.Context, _ *field) ([]Target, error) {
	const receivers, size = 1000, 1024
	c, err := b.cluster(ctx, twoNodes, receivers, backendConfig{broadcast: true, native: true}, false)
	if err != nil {
		return nil, err
	}
	one := *b
	one.o.Window = 1
	x, err := one.linkOf(ctx, c, receivers, size)
	if err != nil {
		return nil, err
	}
	b.report.Link = x
	b.keepResults("fanout 1 -> 1000 at the other node, 1 KiB", []Result{x.Result})
	return []Target{judge("P14", "1 KiB to 1,000 clients at the other node", atMost("bytes on the link", x.Bytes, 1.2*1024))}, nil
}

// createTarget is P15.
func (b *bench) createTarget(ctx context.Context, _ *field) ([]Target, error) {
	placer, err := b.placerCreates(ctx)
	if err != nil {
		return nil, err
	}
	http, err := b.httpCreates(ctx)
	if err != nil {
		return nil, err
	}
	b.keepResults("creates", []Result{placer.full, placer.half, http.full, http.half})
	half := placer.half.P99
	inMillis := Spread{half.Median / 1e3, half.Min / 1e3, half.Max / 1e3}
	t := judge("P15", fmt.Sprintf("creates through Placer at a node that does not lead, %d in flight, three nodes, fsync", b.o.InFlight),
		atLeast("per second", placer.full.PerSecond, 10_000), atMost("p99 at half that load, ms", inMillis, 50))
	t.Measured += fmt.Sprintf(" (over HTTP: %v/s, p99 at half that %s)", http.full.PerSecond, http.half.P99.latency())
	return []Target{t}, nil
}

// tableTarget is P16 and P17.
func (b *bench) tableTarget(ctx context.Context, _ *field) ([]Target, error) {
	if err := b.table(ctx); err != nil {
		return nil, err
	}
	exactly := func(x float64) Spread { return Spread{x, x, x} }
	var cost []aim
	hot := ""
	for _, x := range b.report.Tables {
		cost = append(cost,
			atMost(compact(float64(x.States))+" states: bytes each", exactly(x.Bytes), 100), atMost("look-up ns", x.Lookup, 100),
			atMost("allocations", exactly(x.LookupAllocations), 0))
		hot += fmt.Sprintf(" (look-up of states in use %v ns; a random word of memory %v ns)", x.LookupHot, x.Miss)
	}
	memory := judge("P16", "memory of a state and its look-up", cost...)
	memory.Measured += hot
	first := b.report.Tables[0]
	var stall, alone Spread
	for _, s := range first.Stalls {
		if s.Longest.Median > stall.Median {
			stall, alone = s.Longest, s.Alone
		}
	}
	snapshot := judge("P17", fmt.Sprintf("snapshot of %d states", first.States),
		atMost("longest stall of Apply, ms", stall, 20), atMost("restore, s", first.Restore, 2))
	snapshot.Measured += fmt.Sprintf(" (as many without a snapshot: longest %v ms)", alone)
	return []Target{memory, snapshot}, nil
}
