// Package faults tests what a cluster promises while things go wrong: nodes that die, networks that split, disks that hang
// or fill, clocks of leases, and the holder of a certificate who means ill. It has no code but tests.
//
// A test is a story: some real nodes with real data directories in one process (package clustertest), a load on them, a
// fault, and the end of the fault. The load creates, places, moves and removes states and attaches and gives up instances
// through random nodes, and writes down what it asked for and what it was answered. A fault that had no effect fails the
// story too. At the end
//
//   - what was written down is linearizable, state by state, with the tables of all nodes as the last word (porcupine):
//     nothing acknowledged is lost or happened twice, and nothing that was refused happened;
//   - there is no row that nobody asked for;
//   - epochs of answers that follow each other increase;
//   - all nodes have the same table, byte by byte.
//
// Each story draws its choices from a seed, which is logged; TRUNKLINE_TEST_SEED repeats it. TRUNKLINE_SOAK=N tells each N
// times with N seeds, and longer.
package faults
