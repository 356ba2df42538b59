// Package tunnel carries all sessions of one backend instance over one
// connection. It has both ends: Accept is the coordinator's, Attach the
// instance's (package sdk is built on it).
//
// Two kinds exist. A Legacy tunnel speaks the final framing of the retired
// Hathora Coordinator: a JSON registration without delimiter, then frames of a
// 32-bit length, a type byte and a body, each written whole. A Native tunnel
// speaks the frames of package wire: a hello with versions and features,
// Register and Registered, then frames in which a session is named by a
// channel, messages are numbered, and payloads are cut into fragments.
//
// The native framing also runs without a connection of its own: Near and Far
// are its two ends over a [Carrier], which is how a node with clients reaches
// the node that holds the tunnel. They have no hello, no registration and no
// heartbeat; all that follows but Life is true of them too.
//
// # Order and fairness
//
// Everything said about one state through its [Line] reaches the instance in
// the order it was said. On a native tunnel, frames that concern the connection
// (heartbeats, acknowledgements, credit, go-away, not-owner, released) go
// first; states then take turns of at most one fragment (32 KiB). OPEN and
// CLOSE keep their place within their state and need no credit. While the
// connection keeps up there is no queue at all: frames are appended to the
// batch that the next Flush writes.
//
// # Flow control
//
// A native sender may have 1 MiB of payload of one state on the way
// (its window); the receiver returns credit as it consumes. Fragments of
// an unfinished message are credited when they arrive, bounded by
// [Config.MaxMessage] for each state and [Config.MaxAssembly] for the tunnel. A
// legacy tunnel has no credit: [Line.Admit] compares what a state and the
// tunnel have queued with marks, and a caller that heeds it stops reading the
// clients of that state. Whoever ignores Admit runs into the bound of the
// connection below (package pipe), which closes it.
//
// # Life
//
// A native tunnel sends a heartbeat every [Config.Heartbeat] and is dead after
// [Config.Silence] without a byte. A legacy tunnel is watched by TCP keepalive,
// and for 35 s of silence ([Config.LegacyIdle]) once it has sent a PING. Probe
// asks the kernel (legacy: a keepalive must be acknowledged; it reads the time
// of the last acknowledgement from TCP_INFO) or the peer (native: a heartbeat
// must be answered).
//
// # What it refuses
//
// A length above the maximum, an unknown type, a body that does not decode, a
// registration that is no JSON, too long or too late end the tunnel with an
// [Error] that names one of a fixed set of reasons; sizes are checked before
// memory is taken. Everything else (a channel that is not open, an epoch that
// is not current, a hole in the numbers) is answered or handed up and leaves
// the tunnel alone. The package knows no app, no token and no table: who may
// register, and who owns what, is its caller's business.
//
// # Goroutines
//
// Accept and Attach start none that outlive them. Run owns the reader (its
// caller's goroutine), one goroutine that ends the connection when the context
// does, and one for heartbeats (native) or drain notices (legacy); all have
// ended when Run returns. Writing happens in the goroutine that calls Flush.
// Near and Far own none.
package tunnel
