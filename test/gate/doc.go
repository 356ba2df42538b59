// Package gate has no code of its own: its tests hold what must be true of the project as a whole. Some judge files of
// the tree; the others judge what an earlier step of `make test` left behind (coverage profiles in TRUNKLINE_COVER, logs
// in TRUNKLINE_LOGS) and are skipped without it, except in CI.
package gate
