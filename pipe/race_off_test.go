//go:build !race

package pipe

// raceEnabled says that sync.Pool may drop buffers at random.
const raceEnabled = false
