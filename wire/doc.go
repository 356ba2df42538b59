// Package wire turns the values that Trunkline's parts exchange into bytes and back: ids, close codes and the frames
// of the native protocol, which tunnels, SDK clients and links between nodes speak. Package hathora beside it does the
// same for the legacy protocols.
//
// It has no socket, no goroutine and no clock, and imports the standard library only. It refuses what is not allowed
// (see "What it refuses") before it takes memory for it, and takes none at all per frame.
//
// # A native connection
//
// Whoever dialled writes a hello and one Register (a backend, with its Hold frames) or Connect frame (a client). The
// other answers with a hello that names the version and features chosen, and a Registered or Connected frame, or with
// a Close frame that says why not. Then both write frames. Numbers are big-endian.
//
//	 0      1      2      3      4      5      6                           10
//	┌──────┬──────┬──────┬──────┬──────┬──────┬──────────────────────────┐
//	│ 'T'  │ 'R'  │ 'K'  │ '1'  │ min  │ max  │ features u32             │   hello
//	└──────┴──────┴──────┴──────┴──────┴──────┴──────────────────────────┘
//	 0                           4      5      6
//	┌───────────────────────────┬──────┬──────┬──────────────────────────┐
//	│ length u32: all that      │ type │flags │ fields of the type       │   frame
//	│ follows, 2 to MaxFrame-4  │      │      │                          │
//	└───────────────────────────┴──────┴──────┴──────────────────────────┘
//
// On a native WebSocket (subprotocol trunkline.v1) the bytes are the same; a binary message holds whole frames, one or
// more, and the first one the hello as well.
//
// # Frames
//
// C is a client, B a backend's SDK, E an edge node and O the owner node, which holds B's tunnel. E and O may be one.
// "payload" and "reason" are what is left of the frame, at most MaxFragment and MaxReason bytes. A user is its length
// (u16, at most MaxUser) and its bytes.
//
//	 1 Open           │ channel u32 │ seq u64 │ state u64 │ epoch u64 │ gen u32 │ node u64 │ conn u64 │ stream 16 │ user │
//	                  E to O to B: a session begins (flag Resumed: goes on) on this channel; everything later names the
//	                  channel. node and conn are its ConnID. seq is the number of the frame that follows.
//	 2 Data           │ channel u32 │ seq u64 │ payload
//	                  any direction: one message, or with More a first fragment:
//	                  │ channel u32 │ seq u64 │ size u32 │ payload
//	 3 Close          │ channel u32 │ seq u64 │ code u16 │ reason
//	                  any direction: its sender sends no more on this channel; last number of its stream. The other end
//	                  answers with its own, and then the channel's number is free. Channel 0, on a tunnel or instead
//	                  of Registered or Connected: the connection ends.
//	 4 Ack            │ channel u32 │ seq u64 │
//	                  B to O to E to C and back: everything up to seq has been handled.
//	 5 Expected       │ channel u32 │ seq u64 │
//	                  the receiver of a number above the expected one: go back to seq.
//	 6 Stale          │ channel u32 │ index u64 │
//	                  O to E: the epoch or gen of your Open is older than my table, which is at index.
//	 7 Behind         │ channel u32 │ index u64 │
//	                  O to E: it is newer than my table; I will say Stale or Accept when I have that index.
//	 8 Accept         │ channel u32 │
//	                  B to O to E: the session has joined; broadcasts reach it from here on.
//	 9 Credit         │ state u64 │ size u32 │
//	                  a receiver on a tunnel or link: size more bytes of payload (of Data, Broadcast and NewState
//	                  frames) of this state may come, beyond the credit in the handshake.
//	10 Broadcast      │ seq u64 │ state u64 │ epoch u64 │ payload                         everyone joined
//	                  │ channel u32 │ seq u64 │ state u64 │ epoch u64 │ payload           Except: all but channel
//	                  │ seq u64 │ state u64 │ epoch u64 │ user │ payload                  ToUser: the user's sessions
//	                  B to O to E. With More and without Cont, size u32 stands after epoch.
//	11 NewState       │ seq u64 │ state u64 │ epoch u64 │ [size u32] │ user │ payload
//	                  O to B: a client created the state with this payload. Answered by StateAccept or StateRefuse.
//	12 StateAccept    │ state u64 │ epoch u64 │
//	                  B to O: the state is mine.
//	13 StateRefuse    │ state u64 │ epoch u64 │ code u16 │ reason
//	                  B to O: it is not; give it to another.
//	14 StateRelease   │ state u64 │ epoch u64 │
//	                  B to O: it is over, or stored and no longer in memory: forget it. Answered by StateReleased.
//	15 StateReleased  │ state u64 │ epoch u64 │
//	                  O to B: it is forgotten; whoever asks for it next may meet another instance.
//	16 NotOwner       │ state u64 │ epoch u64 │
//	                  O to B: the state is another's now; drop it without storing it.
//	17 Heartbeat      │ seq u64 │ index u64 │ size u32 │
//	                  either end, on a tunnel every RegisteredBody.HeartbeatMs; from B with its load: index sessions,
//	                  size permille of what it can bear.
//	18 HeartbeatAck   │ seq u64 │
//	                  the answer, with the same seq: it measures the round trip.
//	19 GoAway         │ code u16 │ reason
//	                  either end: connect elsewhere, this end is about to stop. Frames still pass.
//	20 Register       │ RegisterBody │       B to O, first
//	21 Registered     │ RegisteredBody │     O to B, the answer
//	22 Hold           │ (state u64, epoch u64) ... │
//	                  B to O after Register: states it still has in memory, at most 2,048 in one frame.
//	23 Connect        │ ConnectBody │        C to E, first (flag Resumed: the stream existed before)
//	24 Connected      │ ConnectedBody │      E to C, the answer
//	25 Gap            │ channel u32 │ seq u64 │ index u64 │
//	                  E to C, O to B: numbers from index up to seq-1 are lost; seq comes next. index = seq: perhaps
//	                  something before seq is lost.
//	26 Token          │ size u32 │ payload
//	                  E to C, without payload: your token expires in size seconds. C to E: payload is a new token.
//
// Bodies, each a sequence of numbers and of fields with a u16 length before them:
//
//	RegisterBody    │ incarnation 16 │ capacity u32 │ held u32 │ credit u32 │ secret │ store id │ region │ login JSON │
//	RegisteredBody  │ instance u64 │ gen u32 │ heartbeat ms u32 │ credit u32 │
//	ConnectBody     │ app 32 │ stream 16 │ next u64 │ seen u64 │ state text │ token │
//	ConnectedBody   │ state u64 │ next u64 │ down u64 │
//
// # Fragments
//
// A message of more than MaxFragment bytes is cut. Every fragment repeats the fields and flags of its type and has the
// message's seq; all but the last have More, all but the first have Cont, the first has the size of the whole, which
// is larger than what it carries itself and at most MaxMessage. Fragments of one message follow each other in order;
// frames of other states, and control frames, may stand between them. Unreliable messages are never cut.
//
// # What it refuses
//
// Lengths above the limit before the bytes are there, unknown types, flags that a type does not take, fields that are
// too long or end outside the frame, bytes after the last field, a first fragment whose size makes no sense. Each is
// an error that ends the connection. New types and flags need a feature or a version, so a peer that follows the hello
// never sends them.
package wire
