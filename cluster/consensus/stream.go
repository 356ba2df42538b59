package consensus

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport is raft's own over connections that are handed in. Calls name the replica they are meant for, so that whoever
// dials can check who answers.
type transport struct {
	*raft.NetworkTransport
	resolve func(id string) (string, bool)
	stream  *stream

	mu      sync.Mutex
	reached map[raft.ServerID]chan struct{} // closed at the next heartbeat that is answered
}

// callTime is how long a call may take before its connection is given up: long enough for a slow disk, short enough for
// who waits to hear that a replica is gone.
func callTime(t Timing) time.Duration { return max(4*t.Heartbeat, time.Second) }

func newTransport(s *stream, cfg *Config, log hclog.Logger) *transport {
	t := &transport{resolve: cfg.Resolve, stream: s, reached: map[raft.ServerID]chan struct{}{}}
	t.NetworkTransport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: 3, Timeout: callTime(cfg.Timing), Logger: log,
		MaxRPCsInFlight: 1, // no pipeline: one was known to stay wedged behind a follower's slow disk
	})
	return t
}

// key puts id and address into what NetworkTransport takes for an address; stream.Dial takes it apart.
func (t *transport) key(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	if t.resolve != nil {
		if addr, ok := t.resolve(string(id)); ok {
			target = raft.ServerAddress(addr)
		}
	}
	return raft.ServerAddress(string(id) + "\x00" + string(target))
}

// AppendEntries is raft's. After each failure raft waits twice as long as before, up to 10 s, so a replica that comes back
// would be left alone for as long. It is told of a failure only when a heartbeat has been answered again, which it tries
// twice a second at least.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	reached := t.nextReached(id)
	err := t.NetworkTransport.AppendEntries(id, t.key(id, target), args, resp)
	switch heartbeat := args.PrevLogEntry == 0 && args.LeaderCommitIndex == 0 && len(args.Entries) == 0; {
	case heartbeat && err == nil:
		t.answered(id)
	case !heartbeat && err != nil:
		limit := time.NewTimer(heldFailure)
		defer limit.Stop()
		select {
		case <-reached:
		case <-limit.C: // it may have been removed, or this replica not lead any more
		case <-t.stream.ctx.Done():
		}
	}
	return err
}

// heldFailure is how long raft is not told of a failure.
const heldFailure = time.Minute

// nextReached returns a channel that is closed at the next heartbeat that a replica answers.
func (t *transport) nextReached(id raft.ServerID) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reached[id] == nil {
		t.reached[id] = make(chan struct{})
	}
	return t.reached[id]
}

// answered tells who waits that a replica has answered a heartbeat.
func (t *transport) answered(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch := t.reached[id]; ch != nil {
		delete(t.reached, id)
		close(ch)
	}
}

// RequestVote is raft's.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, t.key(id, target), args, resp)
}

// RequestPreVote is raft's.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, t.key(id, target), args, resp)
}

// InstallSnapshot is raft's.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, t.key(id, target), args, resp, data)
}

// TimeoutNow is raft's.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, t.key(id, target), args, resp)
}

// timeoutNow tells a voter to lead without waiting.
func (t *transport) timeoutNow(from *Config, id, addr string) error {
	head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(from.ID), Addr: []byte(from.Addr)}
	return t.TimeoutNow(raft.ServerID(id), raft.ServerAddress(addr), &raft.TimeoutNowRequest{RPCHeader: head}, &raft.TimeoutNowResponse{})
}

var (
	errCut     = errors.New("this replica has ended")
	errNoDial  = errors.New("this replica reaches nobody")
	errTooMany = errors.New("too many connections")
)

// maxConns bounds the connections between this replica and others, both ways.
const maxConns = 1024

// stream is raft's StreamLayer: it knows all connections and can cut them at once. Who dials this replica from within
// gets a pipe.
type stream struct {
	cfg      *Config
	ctx      context.Context
	cancel   context.CancelFunc
	accepted chan net.Conn
	accepts  sync.WaitGroup

	mu    sync.Mutex
	conns map[*cutConn]struct{} // nil once cut
}

// newStream begins to accept; cut ends that.
func newStream(cfg *Config) *stream {
	s := &stream{cfg: cfg, accepted: make(chan net.Conn), conns: map[*cutConn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.Listener != nil {
		s.accepts.Go(s.accept)
	}
	return s
}

func (s *stream) accept() {
	for {
		conn, err := s.cfg.Listener.Accept()
		if err != nil {
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond): // out of file descriptors, say
				continue
			}
		}
		tracked, err := s.track(conn)
		if err != nil {
			continue
		}
		select {
		case s.accepted <- tracked:
		case <-s.ctx.Done():
			tracked.Close()
			return
		}
	}
}

// Accept returns the next connection that another replica, or this one, has dialled.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.ctx.Done():
		return nil, errCut
	}
}

// Dial connects to what transport.key names.
func (s *stream) Dial(key raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, _ := strings.Cut(string(key), "\x00")
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	if id == s.cfg.ID {
		return s.dialSelf(ctx)
	}
	if s.cfg.Dial == nil {
		return nil, errNoDial
	}
	conn, err := s.cfg.Dial(ctx, addr, id)
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

func (s *stream) dialSelf(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	nearConn, err1 := s.track(near)
	farConn, err2 := s.track(far)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	select {
	case s.accepted <- farConn:
		return nearConn, nil
	case <-ctx.Done():
		nearConn.Close()
		farConn.Close()
		return nil, ctx.Err()
	}
}

// Addr is where others dial this replica.
func (s *stream) Addr() net.Addr { return address(s.cfg.Addr) }

// Close cuts everything.
func (s *stream) Close() error {
	s.cut()
	return nil
}

// cut closes the listener and every connection, and ends dialling.
func (s *stream) cut() {
	s.cancel()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
	if s.cfg.Listener != nil {
		s.cfg.Listener.Close()
	}
}

// wait returns when nothing is accepted any more.
func (s *stream) wait() { s.accepts.Wait() }

func (s *stream) track(conn net.Conn) (*cutConn, error) {
	c := &cutConn{Conn: conn, stream: s}
	s.mu.Lock()
	err := errCut
	switch {
	case s.conns == nil:
	case len(s.conns) >= maxConns:
		err = errTooMany
	default:
		s.conns[c] = struct{}{}
		err = nil
	}
	s.mu.Unlock()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// cutConn is a connection that its stream may close.
type cutConn struct {
	net.Conn
	stream *stream
}

// Close closes it and forgets it.
func (c *cutConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// address is a net.Addr that is what it says.
type address string

func (address) Network() string  { return "raft" }
func (a address) String() string { return string(a) }
