// Package trunkline holds no code: it is the root of the module, where arch_test.go keeps the law of which folder may
// import which. The program is cmd/trunkline, the packages for backends and clients are in sdk, and docs/architecture.md
// says what every other folder is for.
package trunkline
