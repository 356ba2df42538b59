// Package cluster gets commands committed to the table of package placement, by raft (package consensus). A Node is the only
// voter of a cluster of one: it leads some tens of milliseconds after its start, and everything it answers is in a log on
// its disk. It never sees a client's frame, and does not decide what a state is worth: it chooses instances by
// placement.Choose and commits what others ask for.
//
// # The writer
//
// Callers put proposals into a bounded channel and wait. The writer takes all that wait, has each prepare its commands
// (choosing an instance happens here, so that creates of one batch see each other), packs them into entries of at most
// 256 KiB, proposes these to raft, and answers when they are committed and applied. While one batch is on its way the
// next one gathers, so hundreds of creates share a sync without any delay being added. A caller whose context ends before
// its proposal was taken is told so and nothing is committed; after that it waits for the end of that batch. So an
// error never hides a row that nobody knows of.
//
// What a caller compared may have changed by the time its command is applied. Create, Place and the app methods try
// again by themselves, a bounded number of times; the others answer placement.ErrStale.
//
// # The data directory
//
// The replica lives in the folder "raft" of the data directory, mode 0700, files 0600: it contains the MAC key of
// anonymous ids. Links are not followed, and what others may read is refused with a sentence, as is a folder that
// something else has filled, and a data directory in which an older version kept its table in a journal of its own. The
// folder is locked while it is open.
//
//	FORMAT     what keeps this folder
//	lock       locked by the process that has it open
//	log-N      entries of raft's log, the rest of what is here is package consensus's too
//	vote
//	snapshots
//
// Every entry has a checksum and is synced before anybody is answered. At start a write at the very end that is not whole
// is dropped: a crash cut it off, nobody was told of it. Damage anywhere else is an error, and nothing is served. A full
// disk is answered with an error and tried again. After a failed sync nobody knows what the disk has, so the node stops.
//
// # Lives of a node
//
// Open begins a node session. Instances attached to an earlier one stay with their rows, live, until they are attached
// again or somebody (package edge, after its grace) says that they are gone. Every minute a sweep ends earlier
// sessions that nothing is attached to, removes keys whose tokens must have expired, rows free for FreeRows (10
// minutes), rows that an earlier life left pending or tentative, and what is left of deleted apps. It proposes like
// everybody else; the table has no clock.
//
// # Goroutines
//
// Open starts those of raft, whose library has no other moment for it. Run owns them from then on, with the writer and
// the sweeper, and waits for all. It returns nil after its context has ended, an error when the replica must not go on.
package cluster
