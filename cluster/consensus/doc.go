// Package consensus gets entries agreed on by raft and applies them to the table of package placement.
//
// Its one job is to stand between github.com/hashicorp/raft and the table: a log and a vote on the disk, snapshots,
// connections, and a state machine that hands each committed entry to placement.Table.Apply. It proposes nothing but
// entries that say nothing, knows nothing of nodes and sessions, and never decides what an entry says or who is a voter:
// PlanVoters says what the voters should be, and acts on nothing.
//
// # What it refuses
//
// An entry above placement.MaxEntry, before raft sees it. An entry that the table does not understand: the replica stops
// there, Run returns an error that names the index, and nothing later is applied, because going on would make this table
// differ from others. Bytes of the log, the vote or a snapshot that do not have their checksum (ErrCorrupt): they are never
// served; the way on is Wipe, and to come back under an id that was never used. To go on after a failed sync: nobody
// knows what the disk has, so the replica stops.
//
// # What it watches
//
// A leader whose disk hangs would lead for ever, since raft's heartbeats do not wait for it. So something is proposed
// four times a second at least, and a leader that gets nothing committed for 2.25 s hands over, or, where its own disk
// or raft does not answer, names a successor, closes all connections and ends with ErrStuck. Any replica that others could
// stand in for ends when its disk has not answered for 5 s. The only voter waits: nobody would take over.
//
// # On the disk
//
// In its folder lie the log in segments (segment.go has the bytes), the file vote (stable.go), and the folder snapshots of
// raft's file snapshot store, whose contents carry the table's own SHA-256 beside that store's checksum. A backup
// (backup.go) is one file with another SHA-256.
//
// # Goroutines
//
// New starts none. Run starts those of raft and of its connections, and four of its own: it watches itself, one takes
// snapshots, one proposes pulses, one accepts connections, and while it shuts down one waits for raft. Run returns when all have
// ended; but with ErrStuck it returns at once, and what waits for the disk ends when the disk answers. Every call that waits
// for raft has a goroutine until raft has answered, which shutting down waits for.
package consensus
