// Package wire turns the values that Trunkline's parts exchange into bytes and back: ids, native frames, close codes.
//
// It has no socket, no goroutine and no clock. It refuses what is not allowed before it takes memory for it.
package wire
