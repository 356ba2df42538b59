// Package node has no code of its own: its tests start whole nodes, the trunkline binary on an address of its own in
// 127/8, and judge them from outside, by what clients and backends see, by the operators' port and by what the kernel says
// of the process.
//
// Backends and whatever must die for real are child processes, which are this test binary started again (see role). They
// speak the old protocol through test/compat/legacybackend or the native one through package sdk; clients are
// test/compat/legacyclient (revision D) and sdk.Client. Every process is ended by its id and gets SIGKILL from the kernel
// when the tests die.
//
// TRUNKLINE_BINARY names a binary that exists, TRUNKLINE_RACE=1 builds it with the race detector, TRUNKLINE_LOGS names the
// folder in which the logs of all processes are kept. They are searched for secrets when all tests are done.
package node
