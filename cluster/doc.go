// Package cluster makes this process a node of a cluster: a member that others know (package gossip), a replica of the table
// of package placement (package consensus), and somebody who gets commands committed from anywhere. It never sees a
// client's frame, and does not decide what a state is worth: instances are chosen by placement.Choose. A node alone is a
// cluster of one, and the same code.
//
// # How a change is made
//
// What a caller wants is an ask (ask.go): create a state, place one, or commands. Where this node leads, its writer takes
// all asks that wait, chooses instances for them (so that creates of one batch see each other), packs the commands into
// entries of at most 256 KiB and has them committed; the next batch gathers meanwhile. Where it does not lead, its
// forwarder sends what waits to the leader, four batches at a time at most, and the leader's writer does the same with
// them. An ask is forwarded once: who does not lead says so. The caller is answered when this node's own table has what
// was decided, so it can route by it at once.
//
// An ask is repeated until somebody has answered it, or the caller's context ends (10 s, where it has no end). So that
// this does nothing twice, the asker draws the id of a new state, commands about rows and instances compare what they
// change, and all others travel behind a placement.Request with a counter that the table remembers. With the context's
// error nothing was changed; where an answer was lost and no other could be had, the error is placement.ErrUnknown. What
// a caller compared may have changed meanwhile. Create, Place and the app methods try again by themselves, a bounded
// number of times; the others answer placement.ErrStale.
//
// # Becoming a member
//
// A node without data and without addresses to join forms a cluster: it makes up an incarnation, what signs certificates, and the
// table. Any other node proves to one that runs that it knows the cluster's secret, and is granted a certificate after
// its id was bound to its key by an entry (enrol.go). With that it asks the leader for a place (enter.go): a replica without a
// vote, named by the node's id and an index, so that no name is ever used twice. Then it opens its session, and is a member when
// its own table has that: with it, everything that was committed before.
//
// A node that comes back with its data runs its replica at once; all nodes of a cluster can be killed and started again.
// The leader confirms its place and notes a new address. If its replica was removed meanwhile, its log or snapshot is damaged, or
// the cluster was recovered without it (a higher generation of the same lineage), what it has of the table is thrown away
// and it enters anew. If the cluster that answers is another one, it ends with a sentence that says how to join.
//
// # Sessions and leases
//
// Every node renews its session at the leader (leases.go). The leader answers renewals that it received before it proposed a
// tick, an empty entry, when that is committed: so an older leader grants nothing that a newer one does not know of. The
// node counts its lease from when it sent the renewal, the leader counts from when it received it, and a new leader
// counts from its election. A session that was not heard of for longer than any lease is ended by an entry, and its
// instances are gone with it. A node whose session has ended stops: Run returns ErrSessionOver, and its owner opens a new
// Node. What ends a session does not reach a node that was shut out: after three renewals without an answer it asks the
// others, and proves once more that it knows the secret, to hear why (doubt).
//
// # Voters
//
// Each second the leader plans the voters from raft's contact times (consensus.PlanVoters) and takes the steps: a voter
// is given what signs certificates before it gets its vote. Replicas of revoked nodes are removed. Only Leave, ForceRemove
// and Revoke make the set smaller.
//
// # The data directory
//
//	raft/FORMAT       what keeps this folder; raft/lock is locked while it is open
//	raft/log-N, vote, snapshots    package consensus's
//	node/member       the node's place: its replica's name, the cluster's incarnation and generation, other nodes' addresses
//	node/node.key, node.crt        its key and certificate
//	node/ca.key       what signs certificates: voters only
//	node/cluster.key  the secret of a cluster that was given no key file
//
// Folders are 0700 and files 0600: the table contains the MAC key of anonymous ids. Links are not followed, and what
// others may read is refused with a sentence, as is a folder that something else has filled. Damage of a log or snapshot
// is an error where there is nobody to fetch the table from.
//
// # What is swept
//
// The leader removes, once a minute, keys whose tokens must have expired, rows free for FreeRows, what is left of deleted
// apps, and rows left pending or tentative from before the oldest open session. It proposes like everybody else; the
// table has no clock.
//
// # Goroutines
//
// Open binds ports and starts nothing. Run owns those of the node port, of calls, gossip and raft (see those packages), the
// writer, the forwarder and the batches it has on their way, the one that renews, the one that watches the table, the one
// that renews certificates, those that look for the cluster while it is not to be seen, and while this node leads those
// that tick, end sessions, look after voters, and sweep. It waits for all. It returns nil after its context has ended.
package cluster
