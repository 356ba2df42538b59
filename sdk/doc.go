// Package sdk is for programs on both sides of Trunkline: a [Backend] holds
// states (rooms, matches, documents) and attaches to a coordinator; a [Client]
// connects to one state through any coordinator.
//
// # Backends
//
// A backend dials out, so it needs no open port. It registers with its app's
// secret and gets states: created by users (Handlers.NewState), or coming from
// elsewhere (Handlers.Load). Each state's handlers run one at a time and in
// order; different states run beside each other. Messages arrive in order and
// once for each stream and number; a message is acknowledged when its handler
// has returned. When the tunnel breaks, contexts of states end, nothing is
// acknowledged or sent any more, and the backend attaches again, to the next
// address, with the states that it holds. What the coordinator still counts as
// its own goes on, with the same State and Session values; what moved meanwhile
// is dropped and Handlers.Gone called. Nothing can stop a handler that ignores
// its context.
//
// # Clients
//
// A client keeps its stream over reconnects: messages that were not
// acknowledged are sent again, those that had been handled are dropped by the
// backend, and the application is told of every possible gap (OnGap), to load
// the state anew. A close code that rules out a retry ends Run with a
// [CloseError].
//
// # What it refuses
//
// Messages above the limit, states and sessions that have ended, sending on a
// broken tunnel: each with an error of this package. Nothing is queued without
// bound: a backend's send waits while the tunnel is congested, a client's fails
// with [ErrFull].
//
// # Goroutines
//
// NewBackend and NewClient start none. Backend.Run owns the tunnel's reader
// (its caller's goroutine), one that helps it, those of package tunnel, and one
// for each state whose handlers have work; it returns when all have ended.
// Client.Run owns the reader (its caller's goroutine), one that writes, and for
// a moment one that renews the token.
package sdk
