// Package edge accepts backends' tunnels and clients' sessions and passes each frame to its next hop.
//
// Its one job is routing: a [Router] knows, for every state that has business on this node, where the state lives, which
// sessions are in it, and how to reach its instance. Control plane and data plane meet in two places only: the shared
// read-only table, and the [Placer] behind which commands are committed. The package never decides where a state lives,
// keeps no game data beyond a frame on its way, and never adopts an epoch that a tunnel or a client names.
//
// # The types
//
//   - a room is this node's view of one state that has sessions, joiners or a create in progress here;
//   - a session is one client's seat in a room;
//   - a home is this node's view of one instance, kept while its tunnel is broken and the grace runs;
//   - an attachment is one tunnel of an instance, or the route to the node that holds it: a home has at most one that
//     lives, and it is the tunnel's Sink;
//   - a peer is a route that another node has opened to an instance whose tunnel is here. That node's sessions are guests
//     in the rooms here; the guests of one node in one state are a party.
//
// # Several nodes
//
// A room binds to the home of its instance, wherever the tunnel is. Where it is on another node, the home lives by a route
// (package edge/link) that speaks the native framing, whatever the instance speaks: the session's OPEN seats a guest in the
// owner's room of the state, and from there all is as for sessions of the owner's own. What comes for everybody, or for a
// user, crosses a route once and is spread at the other end. Frames make one hop, by structure: a guest never leaves the
// room of its owner for another route, it is sent away (NOT_OWNER) and its node looks again.
//
// The owner compares what another node asks for with its own table, which alone counts. It waits where that is behind, and
// answers NOT_OWNER where the state is not here; the asking node then looks again, after a pause that grows. Until the
// owner has seated a session, its client is not read. Messages that an owner cannot pass on wait in their party's queue and
// keep their credit, and a session with many of them has its client held where that is, so one state holds up no other.
// Rows are made firm, removed and released by the owner alone.
//
// Every node watches the table. When an instance attaches to another node, each opens its sessions there, says so, and
// names who left meanwhile; until all have, the new owner takes nobody off a legacy instance. A lane without a connection
// holds its rooms: joins wait, and after the hold the sessions are closed.
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
// Where the tunnel is on another node, frames are held here as well while that node has lost the tunnel (it says so with
// EXPECTED, and that it has one with an ACK) or the lane has no connection: what went there then would be lost with it.
//
// # Goroutines
//
// New starts none. [Router.Run] owns all of them: the accept loop and one goroutine per tunnel (ServeTunnels), one seek per
// waiting room with members, one grace per broken tunnel, one per proposal that nobody waits for, the watch of the table, the
// links with all of theirs, one per party with a queue, one per route that has ended until it is opened again or its guests
// have left, one per instance that waits for the other nodes' word, and the sweep of tentative rows. A lane's reader hands
// frames straight to tunnels and clients. Client goroutines belong to package edge/client and call in through Seat.
//
// # Locks
//
// home.mu, room.mu and the shard locks of the room map are leaves of each other: none is held while another of them is taken,
// save that a room's lock is held while frames are appended to its line and to its sessions' out buffers. Both are memory
// queues with leaf locks of their own that do no I/O; holding the room's lock over them is what keeps the order of a
// room. Flushing, which may write, happens after unlocking. home.turn comes before all of them: it is held while a tunnel or
// route comes or goes, rooms and all, and no reader of a tunnel or lane takes it. party.mu comes behind room.mu and behind
// peer.mu, which are never held together; behind it come only the queues of a route.
package edge
