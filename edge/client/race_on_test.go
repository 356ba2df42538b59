//go:build race

package client

// raceEnabled: the race detector makes sync.Pool drop buffers at random.
const raceEnabled = true
