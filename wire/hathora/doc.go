// Package hathora is the codec of the retired Hathora Coordinator's protocols: what its backends (port 7147) and its
// clients (WebSocket revisions A to E, TCP port 7148) write and read. Pure functions over byte slices, both directions.
//
// # Encoding
//
// Fields are those of the npm package bin-serde: integers are big-endian (a Float is not), and
//
//	UVarint   base 128, MOST significant group first, high bit = another byte follows: 300 = 82 2c.
//	          This is not the varint of encoding/binary.
//	String    UVarint length, bytes (UTF-8, not checked: the original writes lone surrogates as they are)
//	Buffer    bytes up to the end of the frame, without a length
//
// # Port 7147, a backend ("store")
//
// The backend writes one JSON object without any delimiter, at most MaxRegistration bytes, then frames; a frame may
// also come before the JSON. Nobody answers. Every frame in both directions is
//
//	 0       4      5                                frame               u64     String  Buffer
//	┌───────┬──────┬──────────────────────┐          0 NEW_STATE         state   user    data      to the store
//	│ u32   │ type │ body                 │          1 SUBSCRIBE_USER    state   user
//	└───────┴──────┴──────────────────────┘          2 UNSUBSCRIBE_USER  state   user
//	  length of type and body, below 16 MiB:         3 MESSAGE           state   user    data
//	  the first byte of a frame is 0x00              4 CONNECTED                 app
//	                                                 0 SEND_MESSAGE      state   user    data      from the store
//	                                                 1 CLOSE_CONNECTION  state   user
//	                                                 2 PING
//
// NEW_STATE is written once when a client created the state, before any other frame of it; SUBSCRIBE_USER when a user's
// first connection joins, UNSUBSCRIBE_USER when the last leaves, MESSAGE for each message of a client. CONNECTED is
// read by server-sdk 0.5.0 alone and crashes older ones. The store sends SEND_MESSAGE to a user, CLOSE_CONNECTION when
// it does not know the state or throws the user out, and PING every 10 s, which nobody may answer.
//
// # WebSocket, a client
//
//	A  /{appID}          text token; then text state (join) or binary data (create). Create is answered by text state.
//	B  /{appID}          binary 00 String(token) = create, 01 String(token) u64 = join. Create is answered by text state.
//	C  /{appID}          binary 00 String(token) u64 = join. No answer.
//	D  /connect/{appID}  JSON {"stateId": base 36, "token"}. Answered by one empty binary message.
//	E  /{state}?token=   nothing. No answer.
//
// After that each binary message is one message of the application.
//
// # Port 7148, a client
//
// The client writes String(token) String(appID) u64 state without a length, then frames `u32 length, u8 kind, body`
// with kind 0 data and 1 pong. The server writes `u32 length, payload`, except that its very first bytes are special:
// see FirstChunk.
//
// # What it refuses
//
// Lengths at or above 16 MiB, UVarints above 42 bits or of more than 8 bytes, strings that end outside their frame,
// bytes after the last field, registrations that are bare text (builders of 2021), tokens above 8 KiB, JSON that is not
// UTF-8 or nested more than 32 deep. No function takes memory that its input has not already paid for. There are no
// goroutines.
package hathora
