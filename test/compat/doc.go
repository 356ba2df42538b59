// Package compat has no code of its own: its tests start a real trunkline process on an address of its own in 127/8 and
// drive it with the packages that were published for the Hathora Coordinator (folder node, installed by `npm ci`) and
// with clients and backends of the older protocols that no registry has any more (legacyclient, legacybackend).
//
// Every process that a test starts is ended by its process id. What the trunkline processes log is kept and searched
// for secrets when all tests are done; TRUNKLINE_LOGS names the folder to keep it in, TRUNKLINE_RACE=1 builds the binary
// with the race detector, TRUNKLINE_BINARY uses one that exists. With TRUNKLINE_CLUSTERED=1 every coordinator is a cluster
// of three nodes: backends, WebSocket clients and TCP clients are each on another one.
package compat
