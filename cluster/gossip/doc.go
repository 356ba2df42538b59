// Package gossip tells a node which other nodes there are, by github.com/hashicorp/memberlist.
//
// Its one job is a listing ([Gossip.Members]) and hints: who is there, at which address, in which role and version, who
// seems dead, how loaded instances are. All of it may be late or wrong. Nothing that must be agreed on is decided here:
// no state moves and no voter is removed because of what gossip says.
//
// # Who is let in
//
// Packets and streams are encrypted with the cluster's keys (AES-256-GCM) and labelled with its name; what has another
// key or label is dropped. Beyond that every node says the cluster's random incarnation in its metadata (meta.go). A node
// of another incarnation, so of another cluster with the same name and key, is refused by both sides, and each says in
// its log what happened and how to join. A node that has no incarnation yet takes that of the member it joins, and is
// listed by it. Metadata that is longer than [MaxMeta] or does not parse is refused and its node not listed.
//
// # Names and addresses
//
// A node's name stays the same when it restarts, and it is taken back at once at its old address. At another one it is
// taken back when the others have found the old one dead for [Timing].Reclaim, or at once if it had left. A node that
// finds any of its seeds missing from the listing joins them again, for ever: two parts of a cluster that have
// forgotten each other find together by themselves.
//
// # What it refuses
//
// Packets above 2 KiB, streams above 1 MiB, more than 64 streams at once from others (the oldest is closed), plain text,
// and what is encrypted in a way that makes memberlist panic (guard.go). It compresses nothing. It counts what it drops by
// reason ([Gossip.Stats]) and logs one line of a kind in 10 s. A packet with a wrong key is not answered; a stream gets an
// error, encrypted. Who has a key can lie about others, who refute it (and it is a hint), and can make a node use some
// memory: memberlist bounds that with about 100 MiB for each message.
//
// It does not show suspicions: memberlist tells only of a death. Until then a silent node is listed as live.
//
// # Goroutines
//
// New binds the sockets and starts nothing. Run owns the readers of its sockets, and those that join, publish, rotate
// keys, send hints and leave; it waits for all. memberlist starts its own inside Run and gives nothing to wait for: when
// Run has returned they can do nothing any more, and the last of them ends within a probe's time.
package gossip
