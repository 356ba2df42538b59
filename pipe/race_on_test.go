//go:build race

package pipe

// raceEnabled: the race detector makes sync.Pool drop buffers at random.
const raceEnabled = true
