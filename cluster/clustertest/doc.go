// Package clustertest is a network in memory for tests of many nodes in one process. It carries whatever asks for a
// listener, a connection or packets: gossip, raft, control, links, with TLS on top if they like.
//
// A [Network] has hosts, each with one address. A [Host] listens and dials as its operating system would (it is a
// nodeport.Network), with addresses like 10.0.0.1:7946. Tests say how each direction between two hosts behaves (delay,
// jitter, loss), cut it, split the hosts into parts, take a host's power away, and heal.
//
// A [Cluster] is nodes on such hosts, each a whole cluster.Node with a data directory and a [Disk]. Tests start, kill, stop and
// restart them, and break their network and disks; at the end all tables are compared.
//
//	c := clustertest.Form(t, 3) // n1 has formed it, n2 and n3 have joined
//	c.Voters(3)
//	c.Leader().Kill()
//	c.Leader().Get().Create(...)
//
// # What it does as a real network would
//
// Streams keep their order and lose nothing while they live: a lost segment comes later, what is written into a cut waits
// for its end, and a writer that runs far ahead of its reader waits. A stream whose bytes cannot be delivered for
// [Network.Patience] breaks at the end that wrote them. Packets are lost, overtake each other, and are dropped when their
// receiver does not keep up. A host without power answers nothing: dialling it takes until the context ends, and its
// peers are told nothing until, powered on again, it resets what it no longer knows. A process that was killed
// ([Host.Crash]) has a kernel that resets its streams at once.
//
// # What it refuses
//
// Addresses that are no IP with a port, binding an address of another host or one that is taken, packets above 65,507
// bytes. It has no bandwidth, no duplicates and no path MTU.
//
// # Randomness
//
// All of it comes from one generator with the given seed. The order in which goroutines ask is the scheduler's, so a seed
// gives the same kind of run, and under testing/synctest nearly the same one.
//
// # Goroutines
//
// The network has none. What is on its way lies in queues with the time at which it arrives; who waits for it, waits with a timer
// of his own. So nothing has to be closed, and inside a synctest bubble the network's delays take no time. (A bubble's
// clock stands still while a goroutine waits for a mutex whose owner waits for the network: shake hands on a tls.Conn
// before two goroutines use it.) A Cluster has one for each node that runs, and ends them with the test.
package clustertest
