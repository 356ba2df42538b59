package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Register attaches an instance to this node: a new one, or one that was known before, whose rows then stay where they
// are. A *placement.HeldError names the attachment that stands under the name; whoever knows it to be over says so in
// Replace. States that a native instance holds become its own where nobody had them since. Other errors:
// placement.ErrNoApp (being deleted), ErrFull, ErrStopped, ctx's.
func (n *Node) Register(ctx context.Context, r placement.RegisterRequest) (placement.Attached, error) {
	if err := checkRegistration(&r); err != nil {
		return placement.Attached{}, fmt.Errorf("register %q: %w", r.StoreID, err)
	}
	cmd := &placement.Register{
		App: r.App, StoreID: r.StoreID, Native: r.Native, Incarnation: r.Incarnation, Region: r.Region,
		Capacity: r.Capacity, Login: r.Login, Node: n.Node(), Replace: r.Replace, ReplaceGen: r.ReplaceGen,
	}
	res, err := n.once(ctx, cmd)
	if err == nil {
		err = registered(&res)
	}
	if err != nil {
		return placement.Attached{}, fmt.Errorf("register %q: %w", r.StoreID, err)
	}
	if err := n.claim(ctx, &r, res.Instance); err != nil {
		return placement.Attached{}, fmt.Errorf("register %q: claim its states: %w", r.StoreID, err)
	}
	return placement.Attached{Instance: res.Instance, Gen: res.Gen, Again: res.Known}, nil
}

func registered(res *placement.Result) error {
	switch res.Outcome {
	case placement.Done:
		return nil
	case placement.Held:
		return &placement.HeldError{Instance: res.Instance, Gen: res.Gen, Node: res.Node}
	case placement.NoApp:
		return placement.ErrNoApp
	case placement.Full:
		return placement.ErrFull
	default:
		return placement.ErrStale
	}
}

// checkRegistration refuses what the table would refuse, with a sentence.
func checkRegistration(r *placement.RegisterRequest) error {
	switch {
	case r.StoreID == "" || len(r.StoreID) > placement.MaxStoreID:
		return fmt.Errorf("a store id has 1 to %d bytes", placement.MaxStoreID)
	case len(r.Region) > placement.MaxRegion:
		return fmt.Errorf("a region has at most %d bytes", placement.MaxRegion)
	case r.Native && r.Incarnation == [16]byte{}:
		return errors.New("a native instance needs an incarnation")
	case !r.Native && r.Incarnation != [16]byte{}:
		return errors.New("a legacy instance has no incarnation")
	}
	return checkLogin(r.Login)
}

// checkLogin takes nothing or a JSON object of bounded size.
func checkLogin(login json.RawMessage) error {
	login = bytes.TrimSpace(login)
	switch {
	case len(login) == 0:
		return nil
	case len(login) > placement.MaxLogin:
		return fmt.Errorf("a login configuration has at most %d bytes", placement.MaxLogin)
	case login[0] != '{' || !json.Valid(login):
		return errors.New("a login configuration is a JSON object")
	}
	return nil
}

// claimAtOnce bounds the commands of one proposal of many.
const claimAtOnce = 1000

// claim proposes those of the states an instance holds that nobody seems to have had since.
func (n *Node) claim(ctx context.Context, r *placement.RegisterRequest, id wire.InstanceID) error {
	if !r.Native {
		return nil
	}
	var cmds []placement.Command
	generation := n.table.Generation()
	for i, h := range r.Holds {
		row, known := n.table.Lookup(r.App, h.State)
		if known && row.Free && row.Epoch == h.Epoch || !known && h.Epoch.Generation() < generation {
			cmds = append(cmds, &placement.Claim{App: r.App, State: h.State, Held: h.Epoch, Instance: id})
		}
		if k := len(cmds); k > 0 && (k == claimAtOnce || i == len(r.Holds)-1) {
			if _, err := n.many(ctx, cmds); err != nil {
				return err
			}
			cmds = nil
		}
	}
	return nil
}

// Gone says that an instance is gone: its rows are free. One that is gone already is no error. placement.ErrStale: it
// has attached again since gen.
func (n *Node) Gone(ctx context.Context, id wire.InstanceID, gen wire.Gen) error {
	return n.onInstance(ctx, "give up", id, &placement.Gone{Instance: id, Gen: gen}, placement.NoInstance)
}

// Drain stops new states for an instance. placement.ErrStale: it is not live.
func (n *Node) Drain(ctx context.Context, id wire.InstanceID) error {
	return n.onInstance(ctx, "drain", id, &placement.Drain{Instance: id, Draining: true}, placement.Done)
}

func (n *Node) onInstance(ctx context.Context, what string, id wire.InstanceID, cmd placement.Command, fine placement.Outcome) error {
	r, err := n.one(ctx, cmd)
	if err == nil && r.Outcome != placement.Done && r.Outcome != fine {
		err = placement.ErrStale
	}
	if err != nil {
		return fmt.Errorf("%s instance %d: %w", what, id, err)
	}
	return nil
}
