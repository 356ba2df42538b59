package gossip

import (
	"bytes"
	"context"
	"testing"

	"github.com/hashicorp/memberlist"
)

// Readers of a ring go through the slice that it handed out; -race sees who changes it under them.
func TestInstallingKeysDoesNotDisturbReaders(t *testing.T) {
	ring := &memberlist.Keyring{}
	one, two, third := bytes.Repeat([]byte{1}, keySize), bytes.Repeat([]byte{2}, keySize), bytes.Repeat([]byte{3}, keySize)
	if err := install(ring, one, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun, done := make(chan struct{}), make(chan int)
	go func() {
		sum := 0
		for i := 0; ctx.Err() == nil; i++ {
			if i == 1 {
				close(begun)
			}
			for _, k := range ring.GetKeys() {
				sum += int(k[0])
			}
		}
		done <- sum
	}()
	<-begun
	for range 2000 {
		for _, step := range [][][]byte{{one, two, third}, {third, one}, {two, one, third}, {two}, {one, third, two}, {one, two}} {
			if err := install(ring, step[0], step); err != nil {
				t.Fatal(err)
			}
			keys := ring.GetKeys()
			if len(keys) != len(step) || !bytes.Equal(keys[0], step[0]) {
				t.Fatalf("%x was installed as %x", step, keys)
			}
			for _, k := range step {
				if !holds(keys, k) {
					t.Fatalf("%x was installed as %x", step, keys)
				}
			}
		}
	}
	cancel()
	<-done
}
