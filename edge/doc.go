// Package edge accepts backends' tunnels and clients' sessions and passes each frame to its next hop.
//
// Its one job is routing: a [Router] knows, for every state that has business on this node, where the state lives, which
// sessions are in it, and how to reach its instance. Control plane and data plane meet in two places only: the shared
// read-only table, and the [Placer] behind which commands are committed. The package never decides where a state lives,
// keeps no game data beyond a frame on its way, and never adopts an epoch that a tunnel or a client names.
//
// # The four types
//
//   - a room is this node's view of one state that has sessions, joiners or a create in progress here;
//   - a session is one client's seat in a room;
//   - a home is this node's view of one instance, kept while its tunnel is broken and the grace runs;
//   - an attachment is one tunnel of an instance: a home has at most one that lives, and it is the tunnel's Sink.
//
// # Phases of a room
//
//	waiting ──(row, live attachment)──► live ──(tunnel breaks)──► waiting
//	   │ ▲                               │
//	   │ └──(row removed)── closing ◄────┤ (released; the last user of a tentative row was turned away)
//	pending (a create) ──(NEW_STATE written or accepted, or taken back)──► waiting
//
// Frames of clients pass only while a room is live. In every other phase the session's reader waits inside Down, which is
// the hold: nothing is read from the client, so nothing is buffered here and the order is kept; pong and idle clocks stand
// still meanwhile. A waiting room with sessions is driven by one goroutine (seek), which places the state when its row is
// free and closes the sessions when the hold is over.
//
// # Goroutines
//
// New starts none. [Router.Run] owns all of them: the accept loop and one goroutine per tunnel (ServeTunnels), one seek per
// waiting room, one grace per broken tunnel, one per proposal that nobody waits for, and the sweep of tentative rows. Client
// goroutines belong to package edge/client and call in through Seat.
//
// # Locks
//
// home.mu, room.mu and the shard locks of the room map are leaves of each other: none is held while another of them is taken,
// save that a room's lock is held while frames are appended to its line and to its sessions' out buffers. Both are memory
// queues with leaf locks of their own that do no I/O; holding the room's lock over them is what keeps the order of a
// room. Flushing, which may write, happens after unlocking.
package edge
