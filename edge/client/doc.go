// Package client is one client's side of the edge: it accepts WebSocket, HTTP and TCP connections, finds out what they
// speak (Hathora revisions A to E, the legacy TCP protocol, native frames), checks tokens, and carries messages between
// the socket and a Seat that the Router gave.
package client
