package tunnel

import (
	"context"
	"net"
	"time"
)

// A tunnel's connection sends TCP keepalives: after 10 s of silence, every 5 s,
// four of them. A peer that is gone is noticed after 30 s.
const (
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 4
	// probeIdle is the shortest silence after which the kernel can be made to
	// send a keepalive.
	probeIdle = time.Second
	probePoll = 50 * time.Millisecond
	// ackGrain is more than a tick of the kernel's clock: an acknowledgement
	// that came just before the question is no answer.
	ackGrain = 12 * time.Millisecond
)

// tcp is the TCP connection below everything, or nil.
func (c *conn) tcp() *net.TCPConn {
	nc := c.nc
	if c.base != nil {
		nc = c.base.Conn
	}
	t, _ := nc.(*net.TCPConn)
	return t
}

func (c *conn) keepAlive() { c.setKeepAlive(keepAliveIdle, keepAliveInterval, keepAliveCount) }

func (c *conn) setKeepAlive(idle, interval time.Duration, count int) {
	if t := c.tcp(); t != nil {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count})
	}
}

// probeTCP makes the kernel send a keepalive and waits until the peer's has
// acknowledged it, or anything else, since the call began; input counts too.
// Where the kernel does not tell (no TCP, not Linux), only input does.
//
// The kernel gives the age of the last acknowledgement (tcpi_last_ack_recv) in
// milliseconds. A peer whose window is closed still acknowledges: the kernel
// then sends window probes instead of keepalives.
func (c *conn) probeTCP(ctx context.Context) error {
	began, input := time.Now(), c.lastRead.Load()
	c.setKeepAlive(probeIdle, probeIdle, 2*keepAliveCount)
	defer c.keepAlive()
	tick := time.NewTicker(probePoll)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return net.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if c.lastRead.Load() != input {
			return nil
		}
		if info, ok := c.tcpInfo(); ok {
			if info.lastAck < time.Since(began)-ackGrain {
				return nil
			}
		}
	}
}

// tcpInfo is what a probe and RTT want to know of the kernel.
type tcpInfo struct {
	lastAck time.Duration // since the last acknowledgement came
	rtt     time.Duration
}
