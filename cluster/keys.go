package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
)

// KeyState is a secret of the cluster, by its id, and what every node with a session says of it.
type KeyState struct {
	ID trust.KeyID `json:"id"`
	// Primary and Has are the nodes that encrypt with it, and those that accept it; Missing those that do not, Silent those
	// that have not answered.
	Primary []string `json:"primary"`
	Has     []string `json:"has"`
	Missing []string `json:"missing"`
	Silent  []string `json:"silent"`
}

// The steps of a rotation, as nodes ask each other for them: u8 step | text. The text is the secret for the first, which
// crosses connections between nodes and nothing else, the id of a secret for the others, and empty for the last.
const (
	keyAdd uint8 = iota + 1
	keyUse
	keyDrop
	keyList
)

// takeKeys does a step on this node, and says what it has then.
func (n *Node) takeKeys(_ context.Context, _ nodeport.Peer, body []byte) ([]byte, error) {
	if len(body) == 0 {
		return nil, errBadCall
	}
	return n.keyStep(body[0], string(body[1:]))
}

func (n *Node) keyStep(step uint8, text string) (_ []byte, err error) {
	switch step {
	case keyAdd:
		var s trust.Secret
		if s, err = trust.ParseSecret(text); err == nil {
			_, err = n.keys.Add(s)
		}
	case keyUse:
		err = n.keys.Use(trust.KeyID(text))
	case keyDrop:
		err = n.keys.Drop(trust.KeyID(text))
	case keyList:
	default:
		return nil, errBadCall
	}
	if err != nil {
		return nil, coded(codeUnable, "%v", err)
	}
	return json.Marshal(n.keys.List())
}

// everyKey has all nodes take a step.
func (n *Node) everyKey(ctx context.Context, step uint8, text string) ([]KeyState, error) {
	body := append([]byte{step}, text...)
	answers, failed := n.everyMember(ctx, control.Keys, body, func() ([]byte, error) { return n.keyStep(step, text) })
	states := map[trust.KeyID]*KeyState{}
	has := map[string][]trust.KeyInfo{}
	for node, b := range answers {
		var list []trust.KeyInfo
		if err := json.Unmarshal(b, &list); err != nil {
			failed[node] = err
			continue
		}
		has[node] = list
		for _, k := range list {
			if states[k.ID] == nil {
				states[k.ID] = &KeyState{ID: k.ID}
			}
		}
	}
	out := make([]KeyState, 0, len(states))
	for id, st := range states {
		for node, list := range has {
			i := slices.IndexFunc(list, func(k trust.KeyInfo) bool { return k.ID == id })
			switch {
			case i < 0:
				st.Missing = append(st.Missing, node)
			case list[i].Primary:
				st.Primary = append(st.Primary, node)
				fallthrough
			default:
				st.Has = append(st.Has, node)
			}
		}
		for node := range failed {
			st.Silent = append(st.Silent, node)
		}
		for _, of := range [][]string{st.Primary, st.Has, st.Missing, st.Silent} {
			slices.Sort(of)
		}
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b KeyState) int { return strings.Compare(string(a.ID), string(b.ID)) })
	var errs []error
	for node, err := range failed {
		errs = append(errs, fmt.Errorf("node %s: %w", node, err))
	}
	return out, errors.Join(errs...)
}

// KeyStatus returns the secrets that nodes have, and which node has which. Nodes that do not answer are named in it.
func (n *Node) KeyStatus(ctx context.Context) ([]KeyState, error) {
	states, err := n.everyKey(ctx, keyList, "")
	if len(states) == 0 {
		return nil, err
	}
	return states, nil
}

// KeyAdd gives every node a secret that is accepted from then on, and returns its id. nil makes a new one, unless there is
// one that some nodes have and others do not: a KeyAdd that did not reach all is completed by repeating it.
func (n *Node) KeyAdd(ctx context.Context, secret *trust.Secret) (trust.KeyID, error) {
	if secret == nil {
		s := n.unfinishedKey()
		secret = &s
	}
	id := secret.ID()
	n.setAdding(id)
	if _, err := n.everyKey(ctx, keyAdd, secret.Reveal()); err != nil {
		return id, fmt.Errorf("add key %s: %w", id, err)
	}
	n.setAdding("")
	return id, nil
}

// unfinishedKey is the secret whose adding has failed last, or a new one.
func (n *Node) unfinishedKey() trust.Secret {
	n.mu.Lock()
	id := n.adding
	n.mu.Unlock()
	if s, ok := n.keys.Secret(id); ok {
		return s
	}
	return trust.NewSecret()
}

func (n *Node) setAdding(id trust.KeyID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.adding = id
}

// KeyUse has every node encrypt with a secret. It is refused until all of them have it.
func (n *Node) KeyUse(ctx context.Context, id trust.KeyID) error {
	err := n.keyReady(ctx, id, func(k *KeyState) []string { return slices.Concat(k.Missing, k.Silent) }, "do not have it")
	if err == nil {
		_, err = n.everyKey(ctx, keyUse, string(id))
	}
	if err != nil {
		return fmt.Errorf("use key %s: %w", id, err)
	}
	return nil
}

// KeyDrop has no node accept a secret any more. It is refused until all of them encrypt with another.
func (n *Node) KeyDrop(ctx context.Context, id trust.KeyID) error {
	err := n.keyReady(ctx, id, func(k *KeyState) []string { return slices.Concat(k.Primary, k.Silent) }, "still encrypt with it")
	if err == nil {
		_, err = n.everyKey(ctx, keyDrop, string(id))
	}
	if err != nil {
		return fmt.Errorf("drop key %s: %w", id, err)
	}
	return nil
}

// keyReady refuses a step until no node stands in its way.
func (n *Node) keyReady(ctx context.Context, id trust.KeyID, against func(*KeyState) []string, why string) error {
	states, err := n.KeyStatus(ctx)
	if err != nil {
		return err
	}
	for i := range states {
		if states[i].ID != id {
			continue
		}
		if nodes := against(&states[i]); len(nodes) > 0 {
			return fmt.Errorf("%w: nodes %s %s, or have not answered", ErrNotYet, strings.Join(nodes, ", "), why)
		}
		return nil
	}
	return trust.ErrNoKey
}
