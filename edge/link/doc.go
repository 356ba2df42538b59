// Package link carries frames between two nodes, over lanes that outlive their connections.
//
// A lane is an ordered, reliable flow of bytes both ways between two node sessions. The node that has clients opens it
// towards the node that holds the instance's tunnel, so a lane has a direction and the two never dial each other for the
// same one. A connection that breaks between two living nodes loses nothing: each end keeps what the other has not
// acknowledged, and a new connection goes on from there. A lane ends when the other node's session is over or it stops,
// when the other end no longer knows the lane (it has restarted), or when more waits than the ring holds.
//
// On lanes there are routes. A [Route] is the way of one instance: native frames, in batches, both ways, that package
// tunnel makes and understands (its Near at the end that opens the route, its Far at the other). All routes to an instance
// use the same lane, its number modulo the lanes there are, and so do the notices about it, which keep their place.
// Nothing waits: what is sent is kept, Route.Pending says how much that is, and a sender that heeds it never meets the
// bound. Who was told that it is too much is told when it is less (Receiver.Room), one after the other.
//
// # On a connection
//
// Whoever dials says which lane it means and how much of it he has received; the answer is the same from the other
// side. Then both send records of a kind, a length and a payload: bytes of the lane, the number of bytes received so far,
// a sign of life, the end. Numbers count bytes, not records, so a record that was cut in half goes on where it was cut.
//
//	hello   u32 "TRKL" | u8 version | u8 flags (1: never connected before) | u8 lane | u8 0 | u128 stream |
//	        u64 from session | u64 to session | u64 bytes received
//	answer  u8 status | u64 bytes received
//	record  u8 kind | u24 length | payload; integers are big endian
//
// # On a lane
//
// The bytes of a lane are items. Routes have numbers, given by who opened the lane and not used again on it.
//
//	item    u8 kind | u24 length | u32 route | payload
//	1 open    u64 instance | u32 gen
//	2 frames  whole frames of package wire, at most 48 KiB
//	3 closed  u8 why (0 done, 1 refused, 2 the frames made no sense)
//	4 notice  at most 1 KiB; its route is 0
//
// # What it refuses
//
// Records and items of unknown kind or above their length, acknowledgements of what was never sent, a position before what
// was acknowledged: the connection or the lane is closed, and no memory was taken for a length. More than the ring holds:
// the lane ends with [ErrOverflow]. A Receiver whose Take fails or panics ends its route, any other panic its lane. Who the
// other end is was decided before, by whoever handed the connection in, and what a frame means is not looked at.
//
// # Goroutines
//
// Links.Run owns them: for every lane one that writes, one that reads and hands what comes to the receivers itself, and one
// that dials where this end opened it. They begin with the lane, and have ended when Run returns.
package link
