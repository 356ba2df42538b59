package pipe

import (
	"net"
	"testing"
	"time"
)

// stepConn is a connection whose writes wait to be let through.
type stepConn struct {
	net.Conn
	begun, pass chan struct{}
	events      chan string
}

func (c *stepConn) Write(p []byte) (int, error) {
	c.begun <- struct{}{}
	<-c.pass
	c.events <- string(p)
	return len(p), nil
}

func (c *stepConn) Close() error {
	c.events <- "closed"
	return nil
}

// What was gathered before CloseAfterFlush is written, also when another goroutine is in the middle of writing.
func TestCloseAfterFlushWaitsForWhoWrites(t *testing.T) {
	c := &stepConn{begun: make(chan struct{}, 4), pass: make(chan struct{}), events: make(chan string, 4)}
	w := NewWriter(c)
	w.Release(append(w.Acquire(), "first"...))
	flushed := make(chan error)
	go func() { flushed <- w.Flush() }()
	<-c.begun
	w.Release(append(w.Acquire(), "goodbye"...))
	closed := make(chan struct{})
	go func() { w.CloseAfterFlush(time.Second); close(closed) }()
	<-closed
	close(c.pass)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	for _, want := range []string{"first", "goodbye", "closed"} {
		if got := <-c.events; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
