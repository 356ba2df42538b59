package tunnel

import (
	"errors"
	"fmt"

	"github.com/trunkline-edge/trunkline/wire"
)

// Why a tunnel was refused or has ended. Reasons are few and fixed: they are
// the label of a counter. A caller of Tunnel.Close adds its own few; on a native
// tunnel one that is the name of a wire.Code ("taken_over") travels as that code.
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
	ReasonRegistration = "bad_registration"
	// ReasonRegistrationSize: a registration above 64 KiB.
	ReasonRegistrationSize = "registration_size"
	// ReasonSkipped: more than 16 MiB of frames before the registration.
	ReasonSkipped = "skipped"
	// ReasonTimeout: no whole registration in time.
	ReasonTimeout = "timeout"
	// ReasonVersion: no version in common.
	ReasonVersion = "version"
	// ReasonLength: a frame above the maximum, or a message that is.
	ReasonLength = "length"
	// ReasonType: a frame of an unknown type, or of one that only the other
	// end may send.
	ReasonType = "type"
	// ReasonFrame: a frame that does not decode.
	ReasonFrame = "frame"
	// ReasonIdle: nothing came for the idle time.
	ReasonIdle = "idle"
	// ReasonStalled: the other end did not read for the stall time, or the
	// bound of what may be queued was met.
	ReasonStalled = "stalled"
	// ReasonRefused: the coordinator closed a native tunnel with a code
	// (instance end); the cause is a *CodeError.
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

// CodeError is a close code that the other end of a native tunnel sent.
type CodeError struct {
	Code wire.Code
	// Reason is its text, at most wire.MaxReason bytes, chosen by the sender.
	Reason string
}

// Error returns code and reason, quoted.
func (e *CodeError) Error() string {
	return fmt.Sprintf("closed with code %d (%v): %q", uint16(e.Code), e.Code, e.Reason)
}
