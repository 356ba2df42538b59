// Package client is one client's side of the edge. It accepts connections on the HTTP port and on the TCP port, finds
// out what they speak, checks their tokens, and carries messages between the socket and the Seat that the Router gave.
//
// # What it speaks
//
//	/{appID}, Upgrade            Hathora revisions A, B and C, told apart by the first message
//	/connect/{appID}, Upgrade    revision D, or native frames with subprotocol trunkline.v1
//	/{state}?token=, Upgrade     revision E
//	anything else                one http.Server, which is handed the connection with the bytes that were read
//	TCP port, "TRK1"             native frames
//	TCP port, otherwise          the legacy TCP protocol
//
// TLS is told by the first byte on either port. What is plain is taken where Config allows it. permessage-deflate is
// never negotiated. No cookie counts for anything, so every Origin is welcome.
//
// # What it refuses
//
// Request heads above 16 KiB or 100 lines (431) or not complete within Config.Handshake (408), upgrades with a body
// (400), bodies slower than Config.MinRate; WebSocket frames that are unmasked, have reserved bits or opcodes, control
// frames that are fragmented or above 125 bytes (1002), text that is not UTF-8 (1007), messages above the app's limit or
// of more than 1,024 frames (1009, before memory is taken for them); tokens that are invalid or for another app (4002),
// ids that are not base 36 (4003), apps that are not served (4502); more connections than the limits per address (429),
// per app (429, 1013) and on those that have not said yet what they want (one of them is closed). Who does not take what is sent is
// cut, and so is who answers no pings; every end has a counted reason. Tokens, URLs and payloads are never logged.
//
// # Decisions
//
//   - A message is handed to the Seat as one slice that is valid during the call. All messages of one read are handed up
//     before Seat.Drained is called once.
//   - Nothing is read from a client between its first message and the end of Router.Join, so what it writes early waits
//     in the socket. While a Seat holds the reader back, its ping clock stands still.
//   - Revision D without an Origin header, and legacy TCP, get TCP keepalive instead of pings: some engines hand pings
//     to the application.
//   - Revision E's token is checked before the upgrade (401), as server-sdk 1.1.0 does; its state id after it (4003).
//   - The numbers of a native client's messages count all of them, unreliable ones too. This node keeps nothing of a
//     stream that could be sent again, so a resumed client is told of a possible gap.
//   - Token expiry closes native sessions only (4401), within one ping interval.
//
// # Goroutines
//
// Run owns the HTTP server's and the one that turns the wheel of all sessions. Each accepted connection has one at a
// time: the visit, which does the handshake and ends, and then the session's reader, whose stack stays small because it
// waits above no handler; when a session falls silent after it was used, the reader hands over to a fresh one. Timers
// of a legacy TCP client's first chunk end with its session. Run returns after all of them have ended; ServeHTTP and
// ServeTCP return when they accept no more. A panic ends one connection and is counted.
package client
