// Package nodeport is the port between nodes: TLS connections, each for one purpose, between machines that have
// certificates.
//
// A [Port] takes connections and makes them. After the TLS handshake the dialler writes one byte, the [Kind]: 1 raft, 2
// control, 3 link. From then on the connection belongs to whoever serves that kind, here and there, and the port only
// remembers whose it is, so that [Port.Cut] can end all connections of a node at once. Certificates are checked by the TLS
// configurations handed in; which node a checked one names is said by [Config.Peer].
//
// # What it refuses
//
// Each with a counter of its own, see [Reason]. Bytes that do not begin a TLS handshake, before TLS sees them. A handshake
// of more than 32 KiB, or one that together with the kind byte takes longer than [Config.Handshake]. A kind that nobody
// serves. A connection without a client certificate that wants anything but control; and even there its [Peer] is
// Anonymous, it lives no longer than [Config.AnonymousLife], and its handler decides what it may ask.
//
// Who has not shown a certificate cannot keep out who will. Connections in their handshake and anonymous ones are bounded,
// each in number and for each address (IPv4, or the /64 of IPv6), and when there are too many the oldest goes, first of
// the address that came, else of the address with the most: a node needs a handshake's time to be through, a flood has to
// fill all places within it. Nothing is logged more often than once in ten seconds for each reason.
//
// # Goroutines
//
// Run owns one that accepts and one for each accepted connection, which serves it. A connection that went to a
// [Port.Listener], or came from Dial, is read and written by whoever has it. When Run ends it closes them all.
package nodeport
