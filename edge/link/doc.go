// Package link carries frames between two nodes over streams that outlive their connections.
//
// A [Stream] is a lane: an ordered, reliable flow of bytes both ways between two node sessions, as a net.Conn. The node
// that has clients opens it towards the node that holds the instance's tunnel, so a lane has a direction and the two
// never dial each other for the same one. What runs on it is none of this package's business. A connection that breaks
// between two living nodes loses nothing: each end keeps what the other has not acknowledged, and a new connection goes
// on from there. A lane ends when one end closes it, when the other node's session is over, when the other end no longer
// knows it (it has restarted), or when more waits than the ring holds.
//
// # On a connection
//
// Whoever dials says which stream it means and how much of it he has received; the answer is the same from the other
// side. Then both send records of a kind, a length and a payload: bytes of the stream, the number of bytes received so far,
// a sign of life, the end. Numbers count bytes, not records, so a record that was cut in half goes on where it was cut.
//
//	hello   u32 "TRKL" | u8 version | u8 flags (1: never connected before) | u8 lane | u8 0 | u128 stream |
//	        u64 from session | u64 to session | u64 bytes received
//	answer  u8 status | u64 bytes received
//	record  u8 kind | u24 length | payload; integers are big endian
//
// # What it refuses
//
// Records of unknown kind or above their length, acknowledgements of what was never sent, a position before what was
// acknowledged: the connection is closed, and no memory was taken for a length. A write above the ring: the stream fails
// with [ErrOverflow]. Who the other end is was decided before, by whoever handed the connection in.
//
// # Goroutines
//
// Links.Run owns them: for every stream one that writes, and one that dials where this end opened it. Reading is done by
// whoever calls Stream.Read, on the connection itself, which is also what holds the other end back.
package link
