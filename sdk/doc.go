// Package sdk is for programs on both sides of Trunkline: a Backend holds states
// and attaches to a coordinator, a Client connects to one state.
package sdk
