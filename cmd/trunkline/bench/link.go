package bench

import (
	"context"
	"fmt"
	"time"
)

// Link is what messages to everyone in a room cost on the link between two nodes, when all connections are at the one
// and the backend is at the other.
type Link struct {
	Conns      int   `json:"conns"`
	Size       int   `json:"size"`
	Broadcasts int64 `json:"broadcasts"`
	// Bytes are those that the backend's node sent to the other per broadcast: the acknowledgement of the message that
	// caused it is among them, and nothing was taken off.
	Bytes Spread `json:"bytes_per_broadcast"`
	// Idle is what it sent per second before, while nobody said anything.
	Idle float64 `json:"idle_bytes_per_second"`
	// Result is the fan-out itself; per second and CPU are per delivery.
	Result Result `json:"result"`
}

func (b *bench) link(ctx context.Context) error {
	c, err := b.cluster(ctx, b.o.Nodes, b.o.Conns, backendConfig{broadcast: true, native: true}, false)
	if err != nil {
		return err
	}
	if b.report.Link, err = b.linkOf(ctx, c, b.o.Conns, b.o.Size); err != nil {
		return err
	}
	b.report.Results = append(b.report.Results, b.report.Link.Result)
	return nil
}

// linkOf measures fan-out between two nodes and what of it crosses the link.
func (b *bench) linkOf(ctx context.Context, c *contender, conns, size int) (*Link, error) {
	x := &Link{Size: size, Conns: b.connectionsFor(conns, c)}
	var cells []Cell
	var bytes []float64
	cfg := loadConfig{window: max(b.o.Window, 1), size: size, warmup: b.o.Warmup, duration: b.o.Duration}
	for round := range b.o.Rounds {
		since := neighboursNow()
		cell, idle, err := linkRound(ctx, c, x.Conns, cfg)
		b.trackNeighbours(since)
		if err != nil {
			return nil, fmt.Errorf("link: %w", err)
		}
		cells = append(cells, cell)
		bytes = append(bytes, cell.LinkBytes*float64(x.Conns))
		x.Idle = max(x.Idle, idle)
		x.Broadcasts += cell.Messages / int64(x.Conns)
		b.say("link, round %d of %d: %s bytes per broadcast of %d bytes to %d connections, %s deliveries/s", round+1, b.o.Rounds,
			compact(bytes[round]), size, x.Conns, compact(cell.PerSecond))
	}
	b.trackSources(c)
	x.Bytes, x.Result = spreadOf(bytes), resultOf(c.Name, cells)
	return x, nil
}

// linkRound also says how many bytes a second an idle link takes.
func linkRound(ctx context.Context, c *contender, conns int, cfg loadConfig) (Cell, float64, error) {
	open, err := c.connect(ctx, conns, cfg.size)
	if err != nil {
		return Cell{}, 0, err
	}
	defer closeAll(open)
	quiet := newRun(cfg)
	// What joining has caused is over then.
	if err := quiet.pause(ctx, time.Second); err != nil {
		return Cell{}, 0, err
	}
	before, err := c.meter.read(ctx)
	if err != nil {
		return Cell{}, 0, err
	}
	if err := quiet.pause(ctx, time.Second); err != nil {
		return Cell{}, 0, err
	}
	after, err := c.meter.read(ctx)
	if err != nil {
		return Cell{}, 0, err
	}
	cell, err := fanLoad(ctx, open, cfg, c.meter)
	return cell, after.Link - before.Link, err
}
