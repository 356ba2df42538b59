package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// PutApp lists an app with one secret, given as its SHA-256. placement.ErrAppExists: it is listed already.
func (n *Node) PutApp(ctx context.Context, app wire.AppID, secret [32]byte, s placement.AppSettings) error {
	err := checkSettings(&s)
	if err == nil {
		var r placement.Result
		r, err = n.once(ctx, &placement.SetApp{App: app, Secrets: [][32]byte{secret}, Settings: s})
		if err == nil {
			err = appError(r.Outcome, placement.ErrAppExists)
		}
	}
	if err != nil {
		return fmt.Errorf("make app %s: %w", app, err)
	}
	return nil
}

// SetApp changes the settings of a listed app. change may be called more than once. placement.ErrNoApp: not listed.
func (n *Node) SetApp(ctx context.Context, app wire.AppID, change func(*placement.AppSettings)) error {
	return n.changeApp(ctx, app, func(a *placement.App) error {
		change(&a.Settings)
		return checkSettings(&a.Settings)
	})
}

// AddSecret adds a secret, given as its SHA-256; one it has is no error. placement.ErrNoApp: not listed;
// placement.ErrFull: it has placement.MaxSecrets.
func (n *Node) AddSecret(ctx context.Context, app wire.AppID, secret [32]byte) error {
	return n.changeApp(ctx, app, func(a *placement.App) error {
		if a.HasSecret(secret) {
			return nil
		}
		if len(a.Secrets) >= placement.MaxSecrets {
			return placement.ErrFull
		}
		a.Secrets = append(slices.Clone(a.Secrets), secret)
		return nil
	})
}

// RemoveSecret removes a secret, given as its SHA-256. The last one stays: delete the app instead.
// placement.ErrNoApp: not listed.
func (n *Node) RemoveSecret(ctx context.Context, app wire.AppID, secret [32]byte) error {
	return n.changeApp(ctx, app, func(a *placement.App) error {
		left := slices.DeleteFunc(slices.Clone(a.Secrets), func(s [32]byte) bool { return s == secret })
		switch {
		case len(left) == len(a.Secrets):
			return errors.New("the app has no such secret")
		case len(left) == 0:
			return errors.New("this is the app's only secret: add another one first, or delete the app")
		}
		a.Secrets = left
		return nil
	})
}

// changeApp reads an app, changes it and writes it back, again if somebody else was faster.
func (n *Node) changeApp(ctx context.Context, app wire.AppID, change func(*placement.App) error) error {
	for range maxTries {
		a, ok := n.table.App(app)
		if !ok || !a.Listed {
			return fmt.Errorf("change app %s: %w", app, placement.ErrNoApp)
		}
		err := change(&a)
		var r placement.Result
		if err == nil {
			r, err = n.once(ctx, &placement.SetApp{App: app, Expect: a.Version, Secrets: a.Secrets, Settings: a.Settings})
		}
		if err == nil && r.Outcome == placement.Stale {
			continue
		}
		if err == nil {
			err = appError(r.Outcome, placement.ErrStale)
		}
		if err != nil {
			return fmt.Errorf("change app %s: %w", app, err)
		}
		return nil
	}
	return fmt.Errorf("change app %s: %w", app, placement.ErrStale)
}

func appError(o placement.Outcome, stale error) error {
	switch o {
	case placement.Done:
		return nil
	case placement.Stale:
		return stale
	default:
		return placement.ErrNoApp
	}
}

func checkSettings(s *placement.AppSettings) error {
	switch {
	case len(s.Name) > placement.MaxName:
		return fmt.Errorf("an app's name has at most %d bytes", placement.MaxName)
	case s.URLTokens > placement.Off:
		return errors.New("url tokens are on, off or left to the node")
	}
	return checkLogin(s.PinnedLogin)
}

// DeleteApp removes an app, listed or not, with its instances and rows. Once it has returned nil the app is not known;
// when it is interrupted the rest is swept later. placement.ErrNoApp: there is none.
func (n *Node) DeleteApp(ctx context.Context, app wire.AppID) error {
	for range maxTries {
		a, _ := n.table.App(app) // one that was just made elsewhere may not be there yet: the log decides
		r, err := n.once(ctx, &placement.DeleteApp{App: app, Expect: a.Version})
		if err == nil && r.Outcome == placement.Stale {
			continue
		}
		if err == nil {
			if err = appError(r.Outcome, placement.ErrStale); err == nil {
				err = n.removeRows(ctx, func(s *placement.State) bool { return s.App == app })
			}
		}
		if err != nil {
			return fmt.Errorf("delete app %s: %w", app, err)
		}
		return nil
	}
	return fmt.Errorf("delete app %s: %w", app, placement.ErrStale)
}

// PutKey publishes the public key that this life of the node signs with. placement.ErrStale: the kid belongs to
// another key; placement.ErrFull: there are placement.MaxKeys.
func (n *Node) PutKey(ctx context.Context, kid string, public ed25519.PublicKey) error {
	if kid == "" || len(kid) > placement.MaxKeyID || len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("publish key %q: a key id has 1 to %d bytes, a key %d", kid, placement.MaxKeyID, ed25519.PublicKeySize)
	}
	r, err := n.one(ctx, &placement.PutKey{ID: kid, Public: [32]byte(public), Session: n.Node()})
	if err == nil {
		switch r.Outcome {
		case placement.Done:
		case placement.Full:
			err = placement.ErrFull
		default:
			err = placement.ErrStale
		}
	}
	if err != nil {
		return fmt.Errorf("publish key %q: %w", kid, err)
	}
	return nil
}

// Keys returns all public keys in the order of their ids.
func (n *Node) Keys() []placement.Key { return n.table.Keys() }

// Key returns the public key with a kid.
func (n *Node) Key(kid string) (ed25519.PublicKey, bool) {
	k, ok := n.table.Key(kid)
	if !ok {
		return nil, false
	}
	return k.Public[:], true
}
