// Package control is calls between nodes: a verb and some bytes go to a node, some bytes or an error come back.
//
// A [Server] serves connections of kind control that the node port has accepted, a [Client] makes them and keeps one for
// each node that it calls, made anew when it is needed and was lost. Many calls are on their way at a time and overtake
// each other. What bytes mean is the business of each verb's handler. An error crosses with its code and its sentence
// (see [Error]), so that errors.Is finds on one node what was returned on another. An error of the connection says
// whether the call may be repeated: [ErrNotSent] means that the other node has not seen it, [ErrUnknown] that it may have.
//
// # On a connection
//
// The server greets, so that a client knows that it was let in, and what it may ask for. Then requests go one way and
// answers the other, one for each request, also when it was cancelled. Each end sends a beat when it has nothing else to
// say. Integers are big endian; a length counts what follows it.
//
//	request  u32 length | u64 call | u8 verb | u32 patience in ms, 0: not said | body
//	beat     the same, verb 254, call 0            cancel   the same, verb 255, no body
//	answer   u32 length | u64 call | u8 status | body
//	         0: done, the body is the answer       1: failed, body u16 code | text
//	         2: beat, call 0                       3: greeting, call 0, body u8 version 1 | u32 largest body | u16 calls
//
// # What it refuses
//
// A length above the limit (1 MiB, for a peer without certificate 16 KiB) or below its head, more calls at once than the
// greeting allows, a call that is on its way already: the connection is closed, and no memory was taken for a length. A
// verb that nobody handles, and every verb but Enrol of a peer without certificate: answered with an error. A connection
// that shows no life for [Config.Silence], sends a frame for longer than [Config.Stall], or does not take what is written
// to it within that time, is closed. Bodies of one connection take no more memory at a time than [Config.Budget]; beyond
// it, nothing more is read from it until calls have ended. A panic ends its call only.
// Of panics and broken connections the log has one line in ten seconds each, and the counters all.
//
// # Goroutines
//
// Server.Serve runs in the caller's goroutine and owns one that writes and one for each call; it returns when they have
// ended, so a handler must end with its context. Client.Run owns two for each connection: one that dials and reads, one
// that writes.
package control
