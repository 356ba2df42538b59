// Package placement says where each state lives: the table as a deterministic value.
package placement
