package trust

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Errors of changes to Keys.
var (
	// ErrNoKey: no secret has that id.
	ErrNoKey = errors.New("no such key")
	// ErrPrimaryKey: the secret encrypts; another has to be made primary before it is dropped.
	ErrPrimaryKey = errors.New("the key is the primary one")
	// ErrTooManyKeys: MaxSecrets are there already.
	ErrTooManyKeys = errors.New("too many keys")
)

// KeyInfo tells of a secret what everybody may know.
type KeyInfo struct {
	ID      KeyID `json:"id"`
	Primary bool  `json:"primary"`
}

// Keys is the cluster's name and its secrets, as a key file has them: one is primary, all are accepted. All methods may
// be called at any time.
type Keys struct {
	path string        // "" for keys in memory
	turn chan struct{} // held by who changes the file: changes are made one after the other

	mu      sync.Mutex
	ring    *ring
	changed chan struct{}
}

func makeKeys(path string, r *ring) *Keys {
	return &Keys{path: path, turn: make(chan struct{}, 1), ring: r, changed: make(chan struct{})}
}

// NewKeys makes keys with one new secret that are kept nowhere, for tests and for a cluster that does not outlive its
// process. The name is one that CheckName has nothing against.
func NewKeys(name string) *Keys { return makeKeys("", newRing(name)) }

// LoadKeys reads a key file.
func LoadKeys(path string) (*Keys, error) {
	r, err := loadRing(path)
	if err != nil {
		return nil, err
	}
	return makeKeys(path, r), nil
}

func loadRing(path string) (*ring, error) {
	text, err := ReadPrivate(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	r, err := parseRing(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return r, nil
}

func (k *Keys) now() *ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ring
}

// Name is the cluster's name.
func (k *Keys) Name() string { return k.now().name }

// Path is where the key file is, "" for keys in memory.
func (k *Keys) Path() string { return k.path }

// List returns what may be known of all secrets, in the order of the file.
func (k *Keys) List() []KeyInfo {
	r := k.now()
	list := make([]KeyInfo, len(r.secrets))
	for i, s := range r.secrets {
		list[i] = KeyInfo{ID: s.ID(), Primary: i == r.primary}
	}
	return list
}

// Secret returns a secret by its id.
func (k *Keys) Secret(id KeyID) (Secret, bool) {
	r := k.now()
	if i := r.index(id); i >= 0 {
		return r.secrets[i], true
	}
	return Secret{}, false
}

// Primary returns the secret that is used where only one can be.
func (k *Keys) Primary() Secret {
	r := k.now()
	return r.secrets[r.primary]
}

// Changed returns a channel that is closed at the next change. Take it before looking.
func (k *Keys) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// GossipKeys returns the AES-256 keys of gossip: the one to encrypt with, and all that decrypt, that one first.
func (k *Keys) GossipKeys() (primary []byte, all [][]byte) {
	r := k.now()
	primary = r.secrets[r.primary].derive(labelGossip, 32)
	all = append(all, primary)
	for i, s := range r.secrets {
		if i != r.primary {
			all = append(all, s.derive(labelGossip, 32))
		}
	}
	return primary, all
}

// Add has a secret accepted beside the others, and says its id. One that is there already is no error, here as in the
// other changes: a step that was taken may be taken again.
func (k *Keys) Add(s Secret) (KeyID, error) {
	id := s.ID()
	return id, k.change(func(r *ring) (*ring, error) {
		switch {
		case r.index(id) >= 0:
			return r, nil
		case len(r.secrets) == MaxSecrets:
			return nil, fmt.Errorf("add key %s: %w: there are %d, drop one first", id, ErrTooManyKeys, MaxSecrets)
		}
		return &ring{name: r.name, secrets: append(slices.Clone(r.secrets), s), primary: r.primary}, nil
	})
}

// Use makes a secret the primary one.
func (k *Keys) Use(id KeyID) error {
	return k.change(func(r *ring) (*ring, error) {
		i := r.index(id)
		switch {
		case i < 0:
			return nil, fmt.Errorf("use key %.32q: %w", id, ErrNoKey)
		case i == r.primary:
			return r, nil
		}
		return &ring{name: r.name, secrets: r.secrets, primary: i}, nil
	})
}

// Drop has a secret no longer accepted. The primary one is not dropped.
func (k *Keys) Drop(id KeyID) error {
	return k.change(func(r *ring) (*ring, error) {
		i := r.index(id)
		switch {
		case i < 0:
			return r, nil
		case i == r.primary:
			return nil, fmt.Errorf("drop key %s: %w: use another first", id, ErrPrimaryKey)
		}
		next := &ring{name: r.name, secrets: slices.Delete(slices.Clone(r.secrets), i, i+1), primary: r.primary}
		if i < r.primary {
			next.primary--
		}
		return next, nil
	})
}

// change replaces the ring, in the file before in memory.
func (k *Keys) change(step func(*ring) (*ring, error)) error {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	old := k.now()
	next, err := step(old)
	if err != nil {
		return err
	}
	if err := k.write(old, next); err != nil {
		return err
	}
	if next == old {
		return nil
	}
	k.mu.Lock()
	k.ring = next
	told := k.changed
	k.changed = make(chan struct{})
	k.mu.Unlock()
	close(told)
	return nil
}

// write brings the key file up to next. The nodes of one machine may share a file, so another of them may have taken
// this step, or one before, already; a secret in it that this node has never known was put there by hand and is kept.
func (k *Keys) write(old, next *ring) error {
	if k.path == "" {
		return nil
	}
	there, err := loadRing(k.path)
	if err != nil {
		return fmt.Errorf("change %w", err)
	}
	text := next.text()
	if there.name != next.name {
		return fmt.Errorf("key file %s is now one of cluster %s, this node is of %s: put its own file back", k.path, there.name, next.name)
	}
	for _, s := range there.secrets {
		if old.index(s.ID()) < 0 && next.index(s.ID()) < 0 {
			return fmt.Errorf("key file %s was changed by hand: it has key %s, which this node does not know; start the node anew to use it", k.path, s.ID())
		}
	}
	if string(there.text()) == string(text) {
		return nil
	}
	return WritePrivate(k.path, text)
}

// Format writes the name and no secret, whatever the verb.
func (k *Keys) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "keys of %s", k.Name()) }
