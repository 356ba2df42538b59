// Package pipe is the one place that does socket I/O for sessions, tunnels
// and links. It makes few system calls, keeps no memory for a connection that
// is silent, and never lets a writer wait for a peer.
//
//   - Conn is a net.Conn whose Write never blocks: what the kernel does not
//     take at once goes to a bounded buffer that a goroutine, started on
//     demand, drains. A peer that lets the buffer fill, or takes nothing for
//     too long, is cut with ErrSlow. TLS is stacked on top (tls.Server(conn)),
//     so TLS does not block either.
//   - Writer combines: many append to one buffer, and whoever finds it idle
//     writes for all.
//   - Reader waits for a readable socket without holding a buffer, with a
//     shallow stack, for plain TCP and for TLS alike.
//   - TakeBuffer and ReturnBuffer are the pool all of them use.
//
// It refuses to know what the bytes mean: there are no frames here, no
// addresses, no logs and no counters. Errors say why a connection ended and
// the caller counts them.
//
// Goroutines: a Conn owns at most one, its drain, which ends when the pending
// bytes are written or the Conn is closed; CloseAfterFlush adds one timer that
// ends with Close. Reader and Writer start none.
//
// Stall limits are socket deadlines and linger is a runtime timer, so both run
// on the machine's monotonic clock; nothing here reads the wall clock.
package pipe
