//go:build race

package tunnel

// raced: the race detector makes pools forget on purpose.
const raced = true
