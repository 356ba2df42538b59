package link

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// Config is how links behave.
type Config struct {
	// Lanes is how many lanes lead to each node.
	Lanes int
	// Ring is what may be unacknowledged of a stream, in bytes; a stream that is over it ends.
	Ring int
	// AckBytes and AckDelay say when an acknowledgement is sent that nothing else carries along.
	AckBytes int
	AckDelay time.Duration
	// Beat is how often an idle connection shows life. One that shows none for Silence is replaced.
	Beat, Silence time.Duration
	// Redial is the first pause between two attempts to connect, RedialMost the longest; half of each is random.
	Redial, RedialMost time.Duration
	// Handshake bounds an attempt to connect.
	Handshake time.Duration
	// Orphan is how long a stream without a connection is kept.
	Orphan time.Duration
}

// Default returns the values in use.
func Default() Config {
	return Config{
		Lanes: 2, Ring: 8 << 20, AckBytes: 64 << 10, AckDelay: 20 * time.Millisecond, Beat: 2 * time.Second, Silence: 6 * time.Second,
		Redial: 50 * time.Millisecond, RedialMost: 2 * time.Second, Handshake: 10 * time.Second, Orphan: 2 * time.Minute,
	}
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	switch {
	case c.Lanes < 1 || c.Lanes > 255:
		return fmt.Errorf("link: %d lanes, want 1 to 255", c.Lanes)
	case c.Ring < maxRecord || c.AckBytes < 1 || c.AckBytes > c.Ring/2:
		return errors.New("link: the ring must hold a record, and twice what is acknowledged at a time")
	case c.AckDelay <= 0 || c.Beat <= 0 || c.Redial <= 0 || c.RedialMost < c.Redial || c.Handshake <= 0 || c.Orphan <= 0:
		return errors.New("link: times must be above zero")
	case c.Silence < 2*c.Beat:
		return errors.New("link: silence must be at least two beats")
	}
	return nil
}

// Deps are what Links stand on. All but Notified, Log and Now are required.
type Deps struct {
	// Self is this node's session.
	Self wire.NodeSession
	// Dial connects to the port of another node for links, and makes sure that it is that node.
	Dial func(ctx context.Context, to wire.NodeSession) (net.Conn, error)
	// Accept takes a route that another node has opened to an instance here, and says who receives; nil refuses. It is
	// called from the goroutine that reads the lane, and must not block.
	Accept func(from wire.NodeSession, instance wire.InstanceID, gen wire.Gen, rt *Route) Receiver
	// Notified takes a notice of another node, in its place within the lane, from the goroutine that reads the lane. body
	// is valid during the call only. nil drops notices.
	Notified func(from wire.NodeSession, body []byte)
	// Log takes what is worth a line; nil discards.
	Log *slog.Logger
	// Now is the clock, with a monotonic reading; nil is time.Now.
	Now func() time.Time
}

// Links are this node's streams to and from all others.
type Links struct {
	cfg  Config
	deps Deps
	self wire.NodeSession
	log  *slog.Logger
	now  func() time.Time

	refused, overflows, dialFailed, late, faults atomic.Uint64

	// begin starts the reading of a stream; tests of streams read themselves.
	begin func(s *stream) bool

	ctx  context.Context // ends with Run
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	opened map[end]*stream // towards others
	taken  map[end]*stream // opened by others
	counts map[wire.NodeSession]*counts
	gone   Peer // what was counted of sessions that are over
}

// end names a stream by its other end.
type end struct {
	peer wire.NodeSession
	lane int
}

// New returns Links that have started nothing.
func New(cfg Config, deps Deps) (*Links, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Self == 0 || deps.Dial == nil || deps.Accept == nil {
		return nil, errors.New("link: a session, a way to dial and somebody who accepts are needed")
	}
	l := &Links{
		cfg: cfg, deps: deps, self: deps.Self, log: deps.Log, now: deps.Now,
		opened: make(map[end]*stream), taken: make(map[end]*stream),
		counts: make(map[wire.NodeSession]*counts),
	}
	l.begin = func(s *stream) bool { return l.spawn(s.lane.read) }
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l, nil
}

// Run waits for the end of ctx, then closes all streams and returns when their goroutines have ended.
func (l *Links) Run(ctx context.Context) error {
	<-ctx.Done()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.wg.Wait()
	return nil
}

// spawn runs f in a goroutine that Run waits for; false when Run has ended.
func (l *Links) spawn(f func(ctx context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(func() { f(l.ctx) })
	return true
}

// Lanes is how many lanes lead to each node.
func (l *Links) Lanes() int { return l.cfg.Lanes }

// open returns the stream of a lane to another node session, opened at the first call and again after it has ended.
func (l *Links) open(to wire.NodeSession, lane int) *stream {
	key := end{to, lane}
	l.mu.Lock()
	s := l.opened[key]
	if s != nil {
		l.mu.Unlock()
		return s
	}
	var id streamID
	_, _ = rand.Read(id[:]) // never fails
	s = l.newStream(id, lane, to)
	s.mine = true
	l.opened[key] = s
	l.mu.Unlock()
	if !l.spawn(s.write) || !l.spawn(s.dial) || !l.begin(s) {
		s.fail(net.ErrClosed)
	}
	return s
}

// End ends all lanes to and from a node session that is over, and forgets it.
func (l *Links) End(peer wire.NodeSession) {
	for _, s := range l.streams() {
		if s.peer == peer {
			s.fail(ErrOver)
		}
	}
	l.mu.Lock()
	if c := l.counts[peer]; c != nil {
		l.gone.add(c.peer(peer))
		delete(l.counts, peer)
	}
	l.mu.Unlock()
}

func (l *Links) streams() (all []*stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.opened {
		all = append(all, s)
	}
	for _, s := range l.taken {
		all = append(all, s)
	}
	return all
}

func (l *Links) forget(s *stream) {
	key := end{s.peer, s.place}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened[key] == s {
		delete(l.opened, key)
	}
	if l.taken[key] == s {
		delete(l.taken, key)
	}
}

// Serve takes a connection that another node, known to be session from, has made for a link. It returns once the
// connection belongs to its stream, or is refused and closed.
func (l *Links) Serve(ctx context.Context, nc net.Conn, from wire.NodeSession) error {
	err := l.serve(ctx, nc, from)
	if err != nil {
		l.refused.Add(1)
		nc.Close()
		return fmt.Errorf("connection of a link from node session %d: %w", uint64(from), err)
	}
	return nil
}

func (l *Links) serve(ctx context.Context, nc net.Conn, from wire.NodeSession) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Handshake)
	defer cancel()
	if err := nc.SetDeadline(time.Now().Add(l.cfg.Handshake)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(nc, readBuffer)
	h, err := readHello(r)
	switch {
	case err != nil:
		return err
	case h.from != from:
		return fmt.Errorf("it says that it is node session %d", uint64(h.from))
	case int(h.lane) >= l.cfg.Lanes:
		return fmt.Errorf("lane %d of %d", h.lane, l.cfg.Lanes)
	case h.to != l.self:
		_, err := nc.Write(answer(statusElsewhere, 0))
		return errors.Join(ErrElsewhere, err)
	}
	s, fresh := l.streamOf(&h)
	if s == nil {
		_, err := nc.Write(answer(statusUnknown, 0))
		return errors.Join(ErrLost, err)
	}
	if err := s.take(ctx, nc, r, &h); err != nil {
		return err
	}
	if !fresh {
		s.counts.resumed.Add(1)
	}
	return nil
}

// streamOf returns the stream that a hello means. A fresh one ends the one that had its place, and is read from the start:
// its first connection may break before it is taken, and the next one finds it known.
func (l *Links) streamOf(h *hello) (s *stream, fresh bool) {
	key := end{h.from, int(h.lane)}
	l.mu.Lock()
	old := l.taken[key]
	if old != nil && old.id == h.id {
		l.mu.Unlock()
		return old, false
	}
	if !h.fresh {
		l.mu.Unlock()
		return nil, false
	}
	s = l.newStream(h.id, int(h.lane), h.from)
	l.taken[key] = s
	l.mu.Unlock()
	if old != nil {
		old.fail(io.EOF)
	}
	if !l.spawn(s.write) || !l.begin(s) {
		s.fail(net.ErrClosed)
		return nil, false
	}
	return s, true
}

// take answers a hello and makes the connection the stream's, one at a time: what the answer says was received must be the
// last word until then. An older connection is closed first, and its reader waited for.
func (s *stream) take(ctx context.Context, nc net.Conn, r *bufio.Reader, h *hello) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.clear(ctx); err != nil {
		return err
	}
	if _, err := nc.Write(answer(statusFine, s.received.Load())); err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return s.attach(nc, r, h.received)
}

// readBuffer is what a connection reads at a time.
const readBuffer = 64 << 10

func readAnswer(nc net.Conn) (r *bufio.Reader, status byte, received uint64, err error) {
	r = bufio.NewReaderSize(nc, readBuffer)
	var b [answerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, 0, 0, err
	}
	return r, b[0], binary.BigEndian.Uint64(b[1:]), nil
}

// isEnd says whether an error of a handshake ends the stream.
func isEnd(err error) bool { return errors.Is(err, ErrLost) || errors.Is(err, ErrElsewhere) }

func (l *Links) jitter(most time.Duration) time.Duration {
	return time.Duration(mathrand.Int64N(int64(most) + 1))
}
