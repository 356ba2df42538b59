package control

import (
	"context"
	"encoding/binary"
	"errors"
)

var (
	// ErrNotSent is found in the error of a call that the other node has not seen: repeating it is safe.
	ErrNotSent = errors.New("the call was not sent")
	// ErrUnknown is found in the error of a call that was sent and has no answer: it may have been done or not.
	ErrUnknown = errors.New("the call was sent, and what became of it is unknown")
)

// Error is a failure with a code that crosses from node to node. Make sentinels of it, with codes from FirstCode on, and
// compare with errors.Is: what counts is the code. A handler may wrap one; the text that crosses is the whole sentence.
type Error struct {
	Code uint16
	Text string
}

// Codes of this package. Those of handlers begin with FirstCode.
const (
	CodeFailed      uint16 = 1 // an error without a code
	CodePanicked    uint16 = 2
	CodeUnknownVerb uint16 = 3
	CodeRefused     uint16 = 4
	CodeTooLarge    uint16 = 5
	CodeDeadline    uint16 = 6 // errors.Is finds context.DeadlineExceeded
	CodeCancelled   uint16 = 7 // errors.Is finds context.Canceled
	CodeNotSent     uint16 = 8 // the handler passed the call on, and ErrNotSent came of it; errors.Is finds that
	CodeUnknown     uint16 = 9 // the same with ErrUnknown
	FirstCode       uint16 = 64
)

// What a caller may get without any handler's doing.
var (
	ErrPanicked    = &Error{CodePanicked, "the other node's handler panicked"}
	ErrUnknownVerb = &Error{CodeUnknownVerb, "the other node does not know the verb"}
	ErrRefused     = &Error{CodeRefused, "the verb is refused without a certificate"}
	ErrTooLarge    = &Error{CodeTooLarge, "too large"}
)

// plain are errors that are found in an Error of a code, and the codes they cross with (the first).
var plain = []struct {
	code uint16
	err  error
}{
	{CodeDeadline, context.DeadlineExceeded},
	{CodeCancelled, context.Canceled},
	{CodeNotSent, ErrNotSent},
	{CodeUnknown, ErrUnknown},
	// What the handler had done by then is not known.
	{CodeDeadline, ErrUnknown},
	{CodeCancelled, ErrUnknown},
	{CodePanicked, ErrUnknown},
}

func (e *Error) Error() string { return e.Text }

// Is compares codes.
func (e *Error) Is(target error) bool {
	if other, ok := target.(*Error); ok {
		return other.Code == e.Code
	}
	for _, p := range plain {
		if p.code == e.Code && p.err == target {
			return true
		}
	}
	return false
}

// longestText is what of an error's sentence crosses, in bytes.
const longestText = 1 << 10

// encodeError is the body of a failed answer. What is unknown stays so, whatever else the error has to say.
func encodeError(err error) []byte {
	unknown, notSent := errors.Is(err, ErrUnknown), errors.Is(err, ErrNotSent)
	code := CodeFailed
	var coded *Error
	switch {
	case errors.As(err, &coded) && coded.Is(ErrUnknown) == unknown && coded.Is(ErrNotSent) == notSent:
		code = coded.Code
	case unknown:
		code = CodeUnknown
	case notSent:
		code = CodeNotSent
	default:
		for _, p := range plain {
			if errors.Is(err, p.err) {
				code = p.code
				break
			}
		}
	}
	text := err.Error()
	if len(text) > longestText {
		text = text[:longestText]
	}
	return append(binary.BigEndian.AppendUint16(nil, code), text...)
}

func decodeError(body []byte) error {
	if len(body) < 2 {
		return errFrame
	}
	text := body[2:]
	if len(text) > longestText {
		text = text[:longestText]
	}
	return &Error{binary.BigEndian.Uint16(body), string(text)}
}
