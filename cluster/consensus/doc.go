// Package consensus gets entries agreed on by raft and applies them to the table of package placement.
//
// Its one job is to stand between github.com/hashicorp/raft and the table: a log and a vote on the disk, snapshots, and a
// state machine that hands each committed entry to placement.Table.Apply. It proposes nothing by itself, knows nothing of
// nodes and sessions, and never decides what an entry says.
//
// # What it refuses
//
// An entry above placement.MaxEntry, before raft sees it. An entry that the table does not understand: the replica stops
// there, Run returns an error that names the index, and nothing later is applied, because going on would make this table
// differ from others. Bytes of the log or of a snapshot that do not have their checksum (ErrCorrupt): they are never
// served. To go on after a failed sync: nobody knows what the disk has, so the replica stops.
//
// # On the disk
//
// In its folder lie the log in segments (segment.go has the bytes), the file vote, and the folder snapshots of raft's file
// snapshot store, whose contents carry the table's own SHA-256 beside that store's checksum.
//
// # Goroutines
//
// New starts those of raft itself, which its library gives no other moment for. Run owns them from then on, watches over
// them and ends them all; it starts none of its own.
package consensus
