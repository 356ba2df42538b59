package gossip

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

// install makes a ring have exactly these keys. New ones are there before the first packet uses one, old ones go last.
func install(ring *memberlist.Keyring, primary []byte, all [][]byte) error {
	if err := checkKeys(primary, all); err != nil {
		return err
	}
	wanted := append([][]byte{primary}, all...)
	for _, k := range wanted {
		if err := ring.AddKey(bytes.Clone(k)); err != nil {
			return fmt.Errorf("add a gossip key: %w", err)
		}
	}
	if err := ring.UseKey(primary); err != nil {
		return fmt.Errorf("use a gossip key: %w", err)
	}
	for _, k := range slices.Clone(ring.GetKeys()) {
		if !holds(wanted, k) {
			if err := drop(ring, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop removes a key that is not the primary one. RemoveKey shifts the keys behind it in the very slice that readers may be
// going through; so the key is made the last one first, which UseKey does in a new slice: it puts a key before all others.
func drop(ring *memberlist.Keyring, key []byte) error {
	keys := ring.GetKeys()
	if !bytes.Equal(keys[len(keys)-1], key) {
		for _, k := range slices.Backward(keys) { // so that the order of the others, and the primary key, stay
			if bytes.Equal(k, key) {
				continue
			}
			if err := ring.UseKey(k); err != nil {
				return fmt.Errorf("order gossip keys: %w", err)
			}
		}
	}
	if err := ring.RemoveKey(key); err != nil {
		return fmt.Errorf("drop a gossip key: %w", err)
	}
	return nil
}

func holds(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// rotate follows the keys.
func (g *Gossip) rotate(ctx context.Context) error {
	for {
		var changed <-chan struct{}
		if g.cfg.KeysChanged != nil {
			changed = g.cfg.KeysChanged()
		}
		primary, all := g.cfg.Keys()
		if err := install(g.ring, primary, all); err != nil {
			g.cfg.Log.Warn("gossip goes on with the keys it had", "error", err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
