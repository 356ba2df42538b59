package clustertest

import (
	"net"
	"time"
)

// listener takes connections. All but addr is guarded by the network's lock.
type listener struct {
	host    *Host
	addr    *net.TCPAddr
	waiting []*conn
	err     error
	changed signal
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	n := l.host.net
	for {
		n.mu.Lock()
		if l.err != nil {
			err := l.err
			n.mu.Unlock()
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: err}
		}
		if len(l.waiting) > 0 {
			c := l.waiting[0]
			l.waiting = l.waiting[1:]
			n.mu.Unlock()
			return c, nil
		}
		changed := l.changed.wait()
		n.mu.Unlock()
		await(changed, time.Time{})
	}
}

// Close ends Accept and resets the connections that still waited for it.
func (l *listener) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	if l.err != nil {
		return net.ErrClosed
	}
	for _, c := range l.waiting {
		c.stream.reset(errReset)
		c.closed = true
		c.stream.forget()
	}
	l.end(net.ErrClosed)
	return nil
}

func (l *listener) end(err error) {
	l.err, l.waiting = err, nil
	delete(l.host.listeners, uint16(l.addr.Port))
	l.changed.fire()
}

func (l *listener) Addr() net.Addr { return l.addr }
