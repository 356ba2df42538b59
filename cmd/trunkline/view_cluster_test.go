package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

func appError(err error) error { return noApp(wire.AppID{}, err) }

// TestErrorsOfClusterChanges: what is unknown is not answered as refused, and a name that nobody has is not found.
func TestErrorsOfClusterChanges(t *testing.T) {
	for _, c := range []struct {
		change    func(error) error
		err, want error
	}{
		{clusterError, cluster.ErrNoNode, admin.ErrNotFound},
		{clusterError, cluster.ErrNotHere, admin.ErrRefused},
		{clusterError, cluster.ErrNoLeader, admin.ErrUnavailable},
		{clusterError, placement.ErrUnknown, admin.ErrUnavailable},
		{clusterError, context.DeadlineExceeded, admin.ErrUnavailable},
		{keyError, trust.ErrNoKey, admin.ErrNotFound},
		{keyError, cluster.ErrNotYet, admin.ErrNotYet},
		{keyError, control.ErrNotSent, admin.ErrUnavailable},
		{keyError, errors.New("a key file has 8 secrets at most"), admin.ErrRefused},
		{appError, placement.ErrNoApp, admin.ErrNotFound},
		{appError, context.DeadlineExceeded, admin.ErrUnavailable},
	} {
		if got := c.change(fmt.Errorf("revoke: %w", c.err)); !errors.Is(got, c.want) {
			t.Errorf("%v is answered as %v, want %v", c.err, got, c.want)
		}
	}
}

// A dead voter stays in sight: the others wait for it to agree on anything.
func TestStatusShowsNodesThatAreGone(t *testing.T) {
	got := missing([]cluster.Member{
		{Node: "n1", Session: 4, Role: "voter", State: "live"},
		{Node: "n2", Role: "voter", State: "gone"},
		{Node: "n3", State: "left"},
		{Node: "n4", Role: "non-voter", State: "gone", Revoked: true},
	})
	if len(got) != 2 || got[0].NodeID != "n2" || !strings.HasPrefix(got[0].Error, "gone") || got[1].NodeID != "n4" || !strings.HasPrefix(got[1].Error, "revoked") {
		t.Errorf("%+v", got)
	}
}
