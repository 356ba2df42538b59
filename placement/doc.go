// Package placement is the table: which instance each state lives on, which node session holds each instance's tunnel,
// and the apps, node sessions and keys that every node has to know alike. It is a deterministic value. The same
// entries at the same indices make the same table, byte for byte in its snapshots, on every node and in every replay:
// there is no clock, no random number, no order of a Go map and no file in it. Times and random numbers come in as
// fields of commands or as inputs of Choose.
//
// # Words
//
// A row says which instance a state is on, under which epoch. It is pending from its creation until the instance has
// been told, tentative while nobody but a connecting client has said that the state exists, firm otherwise, and free
// when its instance is gone. Free is not a mark on the row: one Gone command frees a million rows by changing one
// instance. An instance that is gone is remembered as long as rows name it, an app that nobody listed as long as it
// has instances or rows, and, for the sake of its login configuration, some thousands of them longer.
//
// A row's taint is the storeId that the state last moved away from. That process may still hold an old copy, so Choose
// passes it over while there is another. The taint stays when the state goes on under the storeId it was on, is
// replaced when the state moves again, and is taken away by Untaint.
//
// # Changing it
//
// Apply takes entries, each a version byte and commands (entry.go has the bytes, the doc comment of each command its
// rules). Every command compares before it sets: it names the epoch, gen or version that it expects and otherwise is
// answered with an Outcome and changes nothing. What an entry contains and this program does not know is an error that
// must stop the log; it is never skipped. Within one index a state gets an owner at most once, at most one instance is
// made and at most one session opened, so (cluster generation, index) is unique as an epoch, and the index as an
// instance's and a session's id.
//
// # Reading it
//
// Lookup takes no lock and allocates nothing. Rows lie in 1,024 shards, each an open-addressing table of 32-byte rows
// without pointers and a byte of hash per row; a writer makes a shard's version odd while it changes it, and a reader
// that saw it change reads again. A row takes 38 to 57 bytes, whatever their number. The hash is keyed by the table's
// MAC key, since clients choose state ids. Everything else is behind one RWMutex that Apply holds for one entry.
// Changed and Changes tell what happened since an index; WaitIndex waits for one.
//
// Snapshot marks the shards as shared and returns; a shard is copied when it is next changed, so writing a snapshot
// down stops nobody. Restore reads into a table of its own, compares every checksum, and swaps it in.
//
// # What it refuses
//
// Anything from an entry or snapshot beyond the limits in types.go, before memory is taken for it. An owner for a
// state whose instance lives: nothing is assigned away before Gone (or EndSession) of the owner is in the log. Rows
// above an app's cap.
//
// The package starts no goroutine. One goroutine calls Apply and Restore; any number may read. Beyond what
// Lookup, App and the other methods answer, nobody may rely on how rows are kept or that there is an entry per create.
package placement
