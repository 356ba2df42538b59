// Package cluster gets commands committed to the table.
package cluster
