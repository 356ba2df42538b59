// Package cluster gets commands committed to the table of package placement. Local does it for one node: a single
// writer, and a journal in the data directory.
//
// # The writer
//
// Callers put proposals into a bounded channel and wait. The writer takes all that wait, has each prepare its commands
// (choosing an instance happens here, so that creates of one batch see each other), packs them into entries, appends
// them to the journal as one record with one fsync, applies them and answers. While one batch is being synced the next
// one gathers, so hundreds of creates share a sync without any delay being added. A caller whose context ends before
// its proposal was taken is told so and nothing is committed; after that it waits for the end of that batch. So an
// error never hides a row that nobody knows of.
//
// What a caller compared may have changed by the time its command is applied. Create, Place and the app methods try
// again by themselves, a bounded number of times; the others answer placement.ErrStale.
//
// # The data directory
//
// The table lives in the folder "table" of the data directory, mode 0700, files 0600: it contains the MAC key of
// anonymous ids. Links are not followed, and what others may read is refused with a sentence, as is a folder that
// something else has filled. The folder is locked while it is open.
//
//	FORMAT     what keeps this folder
//	lock       locked by the process that has it open
//	snapshot   the table as of some index, replaced in one step
//	journal-N  records from index N on (journal.go has the bytes)
//
// Each record has a checksum and is synced before anybody is answered. At start a record at the very end that is not
// whole is dropped: it is a write that a crash cut off, nobody was told of it. Damage anywhere else is an error that
// names the file and byte, and nothing is served. (A bit that flips in the very last record looks like a write cut off
// and cannot be told from it.) When a journal has grown long, the next one is begun and a snapshot is written beside
// the writer, after which older journals go. A write that fails, a full disk say, is taken back and answered with an
// error, and the table goes on as it was. After a failed sync nobody knows what the disk has, so the writer stops and
// Run returns the error.
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
// Open starts none. Run owns the writer, the sweeper, and one goroutine while a snapshot is being written, and waits
// for them. It returns nil after its context has ended, an error when the journal broke.
package cluster
