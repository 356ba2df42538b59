package tunnel

import (
	"sync"
	"sync/atomic"
)

// Counters counts what the tunnels of one process do. The zero value is ready;
// a nil *Counters is allowed and counts nothing.
type Counters struct {
	accepted, framesIn, framesOut [Native + 1]atomic.Uint64 // by Kind
	skipped                       atomic.Uint64
	dropped                       [dropEnd]atomic.Uint64

	mu      sync.Mutex
	refused map[string]uint64
	ended   map[endKey]uint64
}

type endKey struct {
	kind   Kind
	reason string
}

// drop is why one frame went no further; the tunnel lives.
type drop uint8

const (
	dropChannel  drop = iota // names a channel that is not open
	dropAssembly             // a fragment of a message that is not being put together
	dropTooBig               // a message above the maximum
	dropBudget               // a message for which unfinished ones left no room
	dropOverrun              // said in spite of Admit, beyond every bound
	dropEnd
)

var dropNames = [dropEnd]string{"channel", "assembly", "too_big", "budget", "overrun"}

func (c *Counters) accept(k Kind) {
	if c != nil {
		c.accepted[k].Add(1)
	}
}

func (c *Counters) refuse(reason string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[string]uint64)
	}
	c.refused[reason]++
}

func (c *Counters) end(k Kind, reason string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = make(map[endKey]uint64)
	}
	c.ended[endKey{k, reason}]++
}

func (c *Counters) in(k Kind, n int) {
	if c != nil {
		c.framesIn[k].Add(uint64(n))
	}
}

func (c *Counters) out(k Kind) {
	if c != nil {
		c.framesOut[k].Add(1)
	}
}

func (c *Counters) skip(n int) {
	if c != nil {
		c.skipped.Add(uint64(n))
	}
}

func (c *Counters) drop(why drop) {
	if c != nil {
		c.dropped[why].Add(1)
	}
}

// Collect hands every count to emit: names without prefix, labels alternate key
// and value.
func (c *Counters) Collect(emit func(name string, value float64, labels ...string)) {
	if c == nil {
		return
	}
	for _, k := range []Kind{Legacy, Native} {
		emit("tunnel_accepted_total", float64(c.accepted[k].Load()), "kind", k.String())
		emit("tunnel_frames_total", float64(c.framesIn[k].Load()), "kind", k.String(), "direction", "in")
		emit("tunnel_frames_total", float64(c.framesOut[k].Load()), "kind", k.String(), "direction", "out")
	}
	emit("tunnel_skipped_frames_total", float64(c.skipped.Load()))
	for i, name := range dropNames {
		emit("tunnel_dropped_total", float64(c.dropped[i].Load()), "reason", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for reason, n := range c.refused {
		emit("tunnel_refused_total", float64(n), "reason", reason)
	}
	for key, n := range c.ended {
		emit("tunnel_ended_total", float64(n), "kind", key.kind.String(), "reason", key.reason)
	}
}
