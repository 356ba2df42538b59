package tunnel

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Why a tunnel was refused or has ended. Reasons are few and fixed: they are
// the label of a counter.
const (
	// ReasonPeer: the other end closed the connection, or it broke.
	ReasonPeer = "peer"
	// ReasonContext: the context of Run or Accept ended.
	ReasonContext = "context"
	// ReasonSniff: the first byte belongs to no kind of tunnel.
	ReasonSniff = "sniff"
	// ReasonBareText: a registration in bare text (before August 2021).
	ReasonBareText = "bare_text"
	// ReasonOldFraming: a first frame that is not of the final legacy framing.
	ReasonOldFraming = "old_framing"
	// ReasonRegistration: a registration that does not parse.
	ReasonRegistration = "registration"
	// ReasonRegistrationSize: a registration above 64 KiB.
	ReasonRegistrationSize = "registration_size"
	// ReasonSkipped: more than 16 MiB of frames before the registration.
	ReasonSkipped = "skipped"
	// ReasonTimeout: no whole registration in time.
	ReasonTimeout = "timeout"
	// ReasonVersion: no version in common.
	ReasonVersion = "version"
	// ReasonHolds: more held states announced than Config.MaxHolds.
	ReasonHolds = "holds"
	// ReasonLength: a frame above the maximum.
	ReasonLength = "length"
	// ReasonType: a frame of an unknown type, or of one that only the other
	// end may send.
	ReasonType = "type"
	// ReasonFrame: a frame that does not decode.
	ReasonFrame = "frame"
	// ReasonIdle: nothing came for the idle time.
	ReasonIdle = "idle"
	// ReasonStalled: the instance did not read for the stall time, or the
	// bound of what may be queued was met.
	ReasonStalled = "stalled"
	// ReasonRefused: the coordinator answered a native registration with a
	// close code (instance end).
	ReasonRefused = "refused"
	// ReasonPanic: a handler of this end panicked.
	ReasonPanic = "panic"
)

// Error is why a tunnel was refused or has ended.
type Error struct {
	// Reason is one of the Reason constants, or what was given to Close.
	Reason string
	// Err is the cause; nil when the reason says it all.
	Err error
}

// Error returns the reason and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return "tunnel: " + e.Reason
	}
	return fmt.Sprintf("tunnel: %s: %v", e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of an error of this package, ReasonPeer for any
// other error, and "" for nil.
func ReasonOf(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonPeer
}

func fail(reason string, err error) *Error { return &Error{Reason: reason, Err: err} }

func failf(reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Counters counts what the tunnels of one process do. The zero value is ready;
// nil is allowed wherever a *Counters is taken and counts nothing.
type Counters struct {
	framesIn, framesOut, bytesIn   [3]atomic.Uint64 // by Kind
	accepted                       [3]atomic.Uint64
	pings                          atomic.Uint64
	skippedFrames                  atomic.Uint64
	foreign, unassembled, overrun  atomic.Uint64
	stray                          atomic.Uint64
	mu                             sync.Mutex
	refused, ended                 map[string]uint64
}

// Collect hands the counts to emit: names without prefix, labels alternate key
// and value.
func (c *Counters) Collect(emit func(name string, value float64, labels ...string)) {
}
