// Package legacyclient is a client of the old protocols, written from their description and apart from the coordinator's
// own codec: a mistake in that codec cannot hide behind itself here.
//
// It speaks WebSocket revisions A to E and the TCP protocol of port 7148, and the HTTP calls that come before them. Where
// the published clients had a habit that a server must live with (the whole first TCP chunk taken for a message, data
// sent before the acknowledgement), it has the habit too.
//
// It refuses nothing on a server's behalf: what arrives is handed on as it came, for the test to judge.
//
// Each connection has one goroutine that reads, owned by the connection: it ends with the socket, at the latest when
// Close is called.
package legacyclient
