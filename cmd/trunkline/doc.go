// Command trunkline is a node of the coordinator, and the tool to operate one.
//
// Its own job is small: one description of flags, environment and file
// (settings.go), the assembly of a node in order and its shutdown in order
// (node.go), and the verbs, which speak to a running node over its operators'
// port. No rule about states, tunnels or tokens lives here.
//
// It refuses to serve without TLS unless told, to listen beyond loopback in dev
// unless told, a key file that others may read, and a configuration key that it
// does not know. Secrets come from files and the environment, never from the
// command line.
//
// Exit status: 0 done, 1 failed, 2 misused.
//
// Goroutines: a node's errgroup (node.go) owns all of serve and dev; the verbs
// run on the main goroutine, connect with one more that reads the terminal.
package main
