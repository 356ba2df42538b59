//go:build !race

package client

// raceEnabled says that sync.Pool may drop buffers at random.
const raceEnabled = false
