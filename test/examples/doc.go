// Package examples has no code of its own: its tests build trunkline and the
// programs of sdk/examples, run them together, and play.
package examples
