package wire

import "fmt"

// Code says why a session, a state or a connection ended. It is the close code of a WebSocket and stands in Close,
// StateRefuse and GoAway frames. docs/close-codes.md is the same table for readers.
type Code uint16

// The codes that Trunkline itself sends. 4000 to 4003 are those of the Hathora Coordinator.
const (
	CodeNormal          Code = 1000
	CodeGoingAway       Code = 1001
	CodeProtocol        Code = 1002
	CodeUnsupported     Code = 1003
	CodeBadData         Code = 1007
	CodePolicy          Code = 1008
	CodeTooBig          Code = 1009
	CodeInternal        Code = 1011
	CodeRestart         Code = 1012
	CodeTryLater        Code = 1013
	CodeStateNotFound   Code = 4000
	CodeNoInstance      Code = 4001
	CodeBadToken        Code = 4002
	CodeBadStateID      Code = 4003
	CodeTokenExpired    Code = 4401
	CodeSlow            Code = 4408
	CodeUndelivered     Code = 4409
	CodeVersion         Code = 4500
	CodeBadRegistration Code = 4501
	CodeUnknownApp      Code = 4502
	CodeTakenOver       Code = 4503
)

// CodeInfo is one line of the table of codes.
type CodeInfo struct {
	Code      Code
	Name      string // lower case, words joined by underscores: a metric's label
	Reason    string // what the peer reads, at most MaxReason bytes
	Reconnect bool   // whether to connect again with what was sent before, after a pause that grows
	Advice    string // what a client (from 4500 on: a backend) should do
}

var codeTable = [...]CodeInfo{
	{CodeNormal, "normal", "Closed", false, "Nothing: either side was done."},
	{CodeGoingAway, "going_away", "Going away", true, "Reconnect at once: the node is being drained or the page was left."},
	{CodeProtocol, "protocol", "Protocol error", false, "Fix the client: it sent bytes that the protocol does not allow."},
	{CodeUnsupported, "unsupported", "Unsupported data", false, "Fix the client: it sent a kind of message that this endpoint does not take."},
	{CodeBadData, "bad_data", "Malformed data", false, "Fix the client: a text message or a close reason was not UTF-8."},
	{CodePolicy, "policy", "Not allowed", false, "Do not repeat what was sent: it broke a rule that the reason names."},
	{CodeTooBig, "too_big", "Message too big", false, "Send smaller messages; the limit is the app's."},
	{CodeInternal, "internal", "Internal error", true, "Reconnect with a growing pause; if it comes back, report it."},
	{CodeRestart, "restart", "Service restart", true, "Reconnect after a short random pause."},
	{CodeTryLater, "try_later", "Try again later", true, "Reconnect with a growing pause: a limit is reached or the node is overloaded."},
	{CodeStateNotFound, "state_not_found", "State not found", false, "Stop: the backend does not know the state, or closed this user's connection."},
	{CodeNoInstance, "no_instance", "No available stores", true, "Reconnect with a growing pause: no backend of the app is connected."},
	{CodeBadToken, "bad_token", "Invalid token", false, "Log in again and connect with the new token."},
	{CodeBadStateID, "bad_state_id", "Invalid state id", false, "Fix the state id: it is not a 64-bit number in base 36."},
	{CodeTokenExpired, "token_expired", "Token expired", false, "Log in again and connect with the new token."},
	{CodeSlow, "slow", "Reading too slowly", true, "Reconnect and read faster: what was waiting for this client was dropped."},
	{CodeUndelivered, "undelivered", "Messages may be lost", true, "Reconnect and load the state anew: messages may have been lost on the way to the backend."},
	{CodeVersion, "version", "No common protocol version", false, "Upgrade the SDK or the coordinator: their version ranges do not meet."},
	{CodeBadRegistration, "bad_registration", "Malformed registration", false, "Fix the registration: a field is missing, malformed or too long."},
	{CodeUnknownApp, "unknown_app", "Unknown app or secret", false, "Have an operator make the app, or correct the secret."},
	{CodeTakenOver, "taken_over", "Replaced by a newer connection", false, "Stop: a newer connection of this instance has taken its place."},
}

// Codes is the table of all codes that Trunkline sends, ascending. The caller must not change it.
func Codes() []CodeInfo { return codeTable[:] }

func (c Code) info() *CodeInfo {
	for i := range codeTable {
		if codeTable[i].Code == c {
			return &codeTable[i]
		}
	}
	return nil
}

// Reason is what the peer reads when nothing better is known. Never empty: some clients show nothing else.
func (c Code) Reason() string {
	if i := c.info(); i != nil {
		return i.Reason
	}
	return fmt.Sprintf("Closed with code %d", uint16(c))
}

// Reconnect says whether a client may connect again with the same token and state. Codes that Trunkline does not know
// follow the custom of 4000 to 4499 yes, 4500 to 4999 no, 3000 to 3499 yes, 3500 to 3999 no, others no.
func (c Code) Reconnect() bool {
	if i := c.info(); i != nil {
		return i.Reconnect
	}
	return c >= 3000 && c < 3500 || c >= 4000 && c < 4500
}

// Sendable says whether a WebSocket close frame may carry the code (RFC 6455 §7.4: 1005, 1006, 1015 and others may
// not be sent).
func (c Code) Sendable() bool {
	return c >= 1000 && c <= 1014 && c != 1004 && c != 1005 && c != 1006 || c >= 3000 && c < 5000
}

// Known says whether the code is one of Codes.
func (c Code) Known() bool { return c.info() != nil }

// String is the code's name, for metrics and logs.
func (c Code) String() string {
	if i := c.info(); i != nil {
		return i.Name
	}
	return fmt.Sprintf("code_%d", uint16(c))
}
