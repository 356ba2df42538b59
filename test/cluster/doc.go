// Package cluster has no code of its own: its tests start several nodes, the trunkline binary in a network of namespaces
// (package faultnet), break what can break between and below them while backends, clients and creators are at work, and
// judge them from outside.
//
// A test is a world (nodes on hosts of their own), a load (backends, players, creators; every event is a line of JSON in a
// history) and a story: what is broken and what must hold meanwhile. When it is told and all is quiet, world.settle checks
// what holds after every story: the tables of all nodes are the same, no create that was acknowledged is lost or there
// twice, and the history of the control plane can be explained by one copy of the table (porcupine). A story whose fault
// did not happen, by the counts of packets or the ids of processes, fails.
//
// Each story is a function of a seed, which the log shows; TRUNKLINE_SEED repeats one. Plainly run, stories are short.
// TRUNKLINE_SOAK=N tells each N times, with N seeds, and longer. TRUNKLINE_BINARY, TRUNKLINE_RACE and TRUNKLINE_LOGS are
// as in test/node. Where the machine does not let a test make namespaces, the tests skip and say why.
//
// # Goroutines
//
// Players and backends are children, this test binary started again inside a host, each of which writes its events to a
// pipe that one goroutine reads until it ends. Creators, listers and readers are goroutines that load.stop ends and waits
// for. Every process is ended by its id and gets SIGKILL from the kernel when the tests die.
package cluster
