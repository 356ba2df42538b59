package hathora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/trunkline-edge/trunkline/wire"
)

// MaxRegistration is the size of the largest registration, in bytes of JSON.
const MaxRegistration = 64 << 10

var (
	// ErrBareText says that the connection begins with text that is not JSON, as builders of July 2021 register.
	ErrBareText = errors.New("bare-text registration is not supported")
	// ErrNotRegistration says that the connection begins with neither a JSON object nor a frame.
	ErrNotRegistration = errors.New("connection does not begin with a registration")
	// ErrRegistrationTooBig says that the JSON goes on past MaxRegistration.
	ErrRegistrationTooBig = errors.New("registration is longer than 64 KiB")
	// ErrRegistration says that the JSON is malformed or that a field is missing or too long.
	ErrRegistration = errors.New("malformed registration")
)

// Registration is what a store says first. Unknown keys are ignored; only AppSecret is always there.
type Registration struct {
	AppID       string          `json:"appId,omitempty"` // server-sdk 0.4.1 only
	AppSecret   string          `json:"appSecret"`
	StoreID     string          `json:"storeId,omitempty"`
	StoreRegion string          `json:"storeRegion,omitempty"`
	AuthInfo    json.RawMessage `json:"authInfo,omitempty"`
}

// maxDepth is how deep JSON from a stranger may be nested. The decoder takes memory for each level.
const maxDepth = 32

// RegistrationScanner finds the end of a registration that arrives in pieces, looking at each byte once. The zero
// value is ready.
type RegistrationScanner struct {
	pos   int
	depth int
	text  quoting
}

// quoting knows which bytes of JSON stand within a string.
type quoting struct{ inString, escaped bool }

// structural takes the next byte and says whether it may be a bracket.
func (q *quoting) structural(c byte) bool {
	switch {
	case q.escaped:
		q.escaped = false
	case q.inString:
		q.escaped = c == '\\'
		q.inString = c != '"'
	case c == '"':
		q.inString = true
	default:
		return true
	}
	return false
}

// tooDeep says whether JSON is nested deeper than maxDepth.
func tooDeep(text []byte) bool {
	var q quoting
	depth := 0
	for _, c := range text {
		if !q.structural(c) {
			continue
		}
		switch c {
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// Scan looks at b, which begins with the registration and holds at least what b held at the call before. n is the size
// of the JSON, so that b[n:] is the first frame; 0 when more bytes are needed. Braces within strings do not count.
func (s *RegistrationScanner) Scan(b []byte) (n int, err error) {
	if s.pos == 0 && len(b) > 0 && b[0] != '{' {
		if b[0] > ' ' && b[0] < 0x7f {
			return 0, ErrBareText
		}
		return 0, ErrNotRegistration
	}
	for ; s.pos < min(len(b), MaxRegistration); s.pos++ {
		if !s.text.structural(b[s.pos]) {
			continue
		}
		switch b[s.pos] {
		case '{':
			s.depth++
		case '}':
			if s.depth--; s.depth == 0 {
				return s.pos + 1, nil
			}
		}
	}
	if s.pos == MaxRegistration {
		return 0, ErrRegistrationTooBig
	}
	return 0, nil
}

// ScanRegistration is RegistrationScanner for a b that is whole, or short enough to be looked at again.
func ScanRegistration(b []byte) (n int, err error) {
	var s RegistrationScanner
	return s.Scan(b)
}

// ParseRegistration reads the JSON that ScanRegistration found. What it returns does not alias text.
func ParseRegistration(text []byte) (Registration, error) {
	if len(text) > MaxRegistration {
		return Registration{}, ErrRegistrationTooBig
	}
	if !utf8.Valid(text) { // the decoder would make three bytes of each bad one
		return Registration{}, fmt.Errorf("%w: not UTF-8", ErrRegistration)
	}
	if tooDeep(text) {
		return Registration{}, fmt.Errorf("%w: nested too deeply", ErrRegistration)
	}
	var r Registration
	if err := json.Unmarshal(text, &r); err != nil {
		return Registration{}, fmt.Errorf("%w: %s", ErrRegistration, jsonFault(err))
	}
	if bytes.Equal(r.AuthInfo, []byte("null")) {
		r.AuthInfo = nil
	}
	switch {
	case r.AppSecret == "":
		return Registration{}, fmt.Errorf("%w: appSecret is missing or empty", ErrRegistration)
	case len(r.AppSecret) > wire.MaxSecret:
		return Registration{}, fmt.Errorf("%w: appSecret is longer than %d bytes", ErrRegistration, wire.MaxSecret)
	case len(r.StoreID) > wire.MaxStoreID:
		return Registration{}, fmt.Errorf("%w: storeId is longer than %d bytes", ErrRegistration, wire.MaxStoreID)
	case len(r.StoreRegion) > wire.MaxRegion:
		return Registration{}, fmt.Errorf("%w: storeRegion is longer than %d bytes", ErrRegistration, wire.MaxRegion)
	case len(r.AppID) > 2*len(wire.AppID{}):
		return Registration{}, fmt.Errorf("%w: appId is longer than 64 bytes", ErrRegistration)
	case len(r.AuthInfo) > wire.MaxLogin:
		return Registration{}, fmt.Errorf("%w: authInfo is longer than %d bytes", ErrRegistration, wire.MaxLogin)
	}
	return r, nil
}

// jsonFault says what is wrong without repeating the text, which holds a secret.
func jsonFault(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("JSON syntax error at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("field %q has the wrong type", kind.Field)
	}
	return "not JSON"
}

// Append appends the registration as the SDKs write it: compact, keys in their order, nothing after it.
func (r *Registration) Append(dst []byte) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return dst, fmt.Errorf("encode registration: %w", err)
	}
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...), nil
}
