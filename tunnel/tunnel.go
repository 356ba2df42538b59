package tunnel

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// Kind tells the two framings of a tunnel apart.
type Kind uint8

const (
	// Legacy is the framing of the retired Hathora Coordinator.
	Legacy Kind = iota + 1
	// Native is the framing of package wire.
	Native
)

// String returns "legacy" or "native".
func (k Kind) String() string {
	switch k {
	case Legacy:
		return "legacy"
	case Native:
		return "native"
	default:
		return "unknown"
	}
}

// Secret is an app's secret. It prints as *** wherever it is formatted or
// logged; convert it to string to use it.
type Secret string

// String returns "***", whatever the secret.
func (Secret) String() string { return "***" }

// GoString returns "***", whatever the secret.
func (Secret) GoString() string { return "***" }

// LogValue returns "***", whatever the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText returns "***", whatever the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Held names a state that a native instance has kept from an earlier
// attachment.
type Held struct {
	State wire.StateID
	Epoch wire.Epoch
}

// Registration is what an instance says about itself when it attaches.
type Registration struct {
	// Kind says which framing the instance speaks.
	Kind Kind
	// AppID is zero when the instance did not say it.
	AppID wire.AppID
	// Secret is the app's secret as it was sent, not yet checked.
	Secret Secret
	// StoreID names the instance within its app. When the instance gave none,
	// it is made for this connection and Named is false.
	StoreID string
	// Named says that the instance chose its StoreID.
	Named bool
	// Incarnation is drawn by a native process when it starts; zero for legacy.
	Incarnation [16]byte
	// Region is where the instance says it runs; may be empty.
	Region string
	// Capacity is how many sessions the instance wants at most; 0 = not said.
	Capacity uint32
	// Login is the login configuration in the legacy JSON form, or nil.
	Login json.RawMessage
	// Holds are the states that a native instance still has.
	Holds []Held
}

// End is the coordinator's end of an instance's tunnel, whether it owns a
// connection (Tunnel) or is carried to the node that does (Near). All methods
// may be called from any goroutine.
type End interface {
	// Kind says which framing is spoken.
	Kind() Kind
	// Line returns the state's way to the instance: the same Line for the same
	// state and epoch until its End. Another epoch replaces the older Line.
	Line(state wire.StateID, epoch wire.Epoch) Line
	// Flush writes what was said since the last Flush. It does not block.
	Flush()
	// Queued returns the bytes that were said and are not on their way.
	Queued() int
	// Close ends the tunnel: what is queued is still written, whole frames
	// only, for at most Config.Linger. Run then returns that reason.
	Close(reason string)
}

// Tunnel is the coordinator's end of one attachment of an instance.
// All methods but Run may be called from any goroutine.
type Tunnel interface {
	End
	// Confirm answers the registration: native writes Registered; legacy
	// expects no answer and gets none. Call it once, before any Line.
	Confirm(instance wire.InstanceID, gen wire.Gen)
	// Greet writes the legacy CONNECTED frame with the app's id, which server
	// SDK 0.5.0 waits for and others may crash on. Native: nothing.
	Greet(appID string)
	// RTT returns the last measured round trip (native: heartbeat, legacy:
	// TCP's own estimate), 0 when unknown.
	RTT() time.Duration
	// Probe returns nil when the other end has shown within ctx that it lives:
	// native by answering a heartbeat, legacy by a TCP acknowledgement. It
	// needs a running Run.
	Probe(ctx context.Context) error
	// Run reads until the tunnel ends and hands everything to sink from one
	// goroutine. It returns an error with a reason, always; see [ReasonOf].
	// When Run has returned, no call of sink is made or in progress.
	Run(ctx context.Context, sink Sink) error
	// GoAway asks a native instance to attach elsewhere; it then ends the
	// tunnel itself. Legacy cannot be told: nothing.
	GoAway()
}

// Line is one state's way to the instance. Calls are ordered as they are made,
// across all goroutines that make them; none blocks, and none does I/O before
// Tunnel.Flush. Payloads are copied.
type Line interface {
	// New tells the instance of a state that it shall make (NEW_STATE).
	New(user string, data []byte)
	// Open tells it of a session. Legacy: SUBSCRIBE_USER.
	Open(s *Session)
	// Data carries one message of a session. Legacy: MESSAGE.
	Data(s *Session, seq uint64, payload []byte, unreliable bool)
	// Close tells that a session has ended; seq is the number after its last
	// message. Legacy: UNSUBSCRIBE_USER.
	Close(s *Session, seq uint64, code wire.Code)
	// Admit asks whether n more bytes of payload are welcome: nil, go on; else
	// the channel is closed when it is time to ask again (or the tunnel ends).
	Admit(n int) (wait <-chan struct{})
	// Released confirms that the state's row is gone. Legacy: nothing.
	Released()
	// NotOwner tells a native instance that the state is another's now; what is
	// queued for the state is dropped. Legacy: nothing.
	NotOwner()
	// End forgets the Line and what is queued on it.
	End()
}

// Session is one client connection in one state, as the tunnel names it.
type Session struct {
	// Channel names the session on this tunnel from OPEN on; never 0, and not
	// used again while the tunnel lives.
	Channel uint32
	State   wire.StateID
	Epoch   wire.Epoch
	Gen     wire.Gen
	Conn    wire.ConnID
	Stream  wire.StreamID
	// Next is the number of the first message that follows OPEN.
	Next uint64
	User string
	// Resumed says that the stream was open before, at this or another node.
	Resumed bool
}

// Load is what a native instance reports about itself.
type Load struct {
	// Permille is 1000 when the instance is full.
	Permille uint32
	// Sessions is how many sessions it has.
	Sessions uint64
}

// Sink takes what the instance sends. All calls come from the goroutine of
// Tunnel.Run, in tunnel order. Slices are valid during the call only. A call
// must not block. A legacy tunnel has epoch 0 in every call.
type Sink interface {
	// ToSession is a message for one session (native only).
	ToSession(channel uint32, seq uint64, payload []byte, unreliable bool)
	// ToUser is a message for all sessions of a user in a state.
	ToUser(state wire.StateID, epoch wire.Epoch, user, payload []byte)
	// ToAll is a message for all joined sessions of a state but the one with
	// channel except (0: no exception).
	ToAll(state wire.StateID, epoch wire.Epoch, except uint32, payload []byte, unreliable bool)
	// CloseUser is legacy CLOSE_CONNECTION.
	CloseUser(state wire.StateID, user []byte)
	// CloseSession asks to close one session (native only).
	CloseSession(channel uint32, code wire.Code, reason []byte)
	// StateAccepted and StateRefused answer Line.New (native only).
	StateAccepted(state wire.StateID, epoch wire.Epoch)
	StateRefused(state wire.StateID, epoch wire.Epoch, code wire.Code, reason []byte)
	// StateReleased says that the instance has let go of the state.
	StateReleased(state wire.StateID, epoch wire.Epoch)
	// SessionAccepted says that the session has joined: broadcasts that follow
	// are for it too.
	SessionAccepted(channel uint32)
	// Acked says that the instance has done every message up to seq.
	Acked(channel uint32, seq uint64)
	// Expected says that the instance waits for number seq.
	Expected(channel uint32, seq uint64)
	// Load is a report that came with a heartbeat.
	Load(load Load)
	// Leaving says that the instance is about to end (native goodbye).
	Leaving()
	// Drained says that no further input is known to be buffered: flush.
	Drained()
}
