// Package faultnet puts real processes into a network that a test can break: each host is a network namespace with one
// TUN device, and the test's own process carries packets between them, with delay, jitter, loss, a rate, one-way cuts and
// partitions for each direction of each pair. Nothing leaves the namespaces.
//
// It needs root, /dev/net/tun and the command ip; where one is missing, New skips the test and says which. Every fault
// counts the packets it has hit (Stats), since a fault that hit nothing has tested nothing.
//
// # Goroutines
//
// New starts one reader per host and one carrier per direction; the test's cleanup ends them, kills by process id what
// still runs in the namespaces, and removes these.
package faultnet
