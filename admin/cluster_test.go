package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fakeCluster is a member among fixed others. Its other node is another Server, as in a cluster.
type fakeCluster struct {
	ready     error
	status    ClusterStatus
	failure   error // of everything that changes
	other     *Server
	forwarded []string
	added     Secret
	changed   []string
	cut       bool // the snapshot ends in the middle
}

func (f *fakeCluster) Ready() error { return f.ready }

func (f *fakeCluster) Members(context.Context) ([]Member, error) {
	return []Member{{NodeID: "n1", State: "live", Leader: true}, {NodeID: "n2", State: "live"}}, nil
}
func (f *fakeCluster) ClusterStatus(context.Context) (ClusterStatus, error) { return f.status, nil }

func (f *fakeCluster) Peers(context.Context) (Peers, error) {
	return Peers{Leader: "n1", Term: 3}, nil
}

func (f *fakeCluster) change(what string) error {
	f.changed = append(f.changed, what)
	return f.failure
}
func (f *fakeCluster) Leave(context.Context) error { return f.change("leave") }
func (f *fakeCluster) ForceRemove(_ context.Context, node string) error {
	return f.change("remove " + node)
}

func (f *fakeCluster) Revoke(_ context.Context, node string) error { return f.change("revoke " + node) }

func (f *fakeCluster) UseKey(_ context.Context, id string) error { return f.change("use " + id) }

func (f *fakeCluster) DropKey(_ context.Context, id string) error { return f.change("drop " + id) }

func (f *fakeCluster) AddKey(_ context.Context, s Secret) (string, error) {
	f.added = s
	return "k2", f.change("add")
}

func (f *fakeCluster) Keys(context.Context) (KeyList, error) {
	return KeyList{Cluster: "shop", Keys: []Key{{ID: "k1", Primary: true}}, Members: []KeyMember{{NodeID: "n1"}}}, nil
}

func (f *fakeCluster) Snapshot(_ context.Context, w io.Writer) error {
	if f.failure != nil {
		return f.failure
	}
	if _, err := io.WriteString(w, strings.Repeat("s", 100_000)); err != nil {
		return err
	}
	if f.cut {
		return errors.New("the disk is gone")
	}
	return nil
}

func (f *fakeCluster) Forward(ctx context.Context, node, method, path string, body []byte) (int, []byte, error) {
	f.forwarded = append(f.forwarded, node+" "+method+" "+path)
	switch {
	case node != "n2":
		return 0, nil, fmt.Errorf("node %s: %w", node, ErrNotFound)
	case f.other == nil:
		return 0, nil, fmt.Errorf("node n2: %w", ErrUnreachable)
	}
	status, answer := f.other.Answer(ctx, method, path, body)
	return status, answer, nil
}

// two are a server that is run with a client of it, and another node that the first can ask.
func two(t *testing.T) (*Client, *fakeCluster, *fakeNode) {
	t.Helper()
	there := newFakeNode()
	f := &fakeCluster{}
	there.cluster = &fakeCluster{}
	f.other = newServer(t, there, func(c *Config) { c.NodeID = "n2" })
	here := newFakeNode()
	here.cluster = f
	return running(t, here, func(c *Config) { c.NodeID = "n1" }), f, there
}

func TestAnyNodeAnswersForAnyOther(t *testing.T) {
	c, f, there := two(t)
	ctx := t.Context()
	there.apps = nil
	there.failure = nil
	if l, err := c.At("n2").Apps(ctx); err != nil || len(l) != 0 {
		t.Errorf("apps at n2: %v, %v", l, err)
	}
	if l, err := c.At("n1").Apps(ctx); err != nil || len(l) != 1 {
		t.Errorf("apps at n1: %v, %v", l, err)
	}
	there.checks = []Check{{Name: "serving", Detail: "stopping"}}
	if r, err := c.At("n2").Ready(ctx); err != nil || r.Ready || r.Checks[0].Detail != "stopping" {
		t.Errorf("readiness of n2: %+v, %v", r, err)
	}
	if p, err := c.At("n2").States(ctx, appA.String(), "", 2); err != nil || len(p.States) != 2 || there.query.Limit != 2 {
		t.Errorf("states at n2: %+v, %v", p, err)
	}
	if w, err := c.At("n2").Where(ctx, "", "1"); err != nil || len(w) != 1 {
		t.Errorf("where at n2: %+v, %v", w, err)
	}
	if p, err := c.At("n2").Peers(ctx); err != nil || p.Term != 3 {
		t.Errorf("peers at n2: %+v, %v", p, err)
	}
	want := "n2 GET /v1/states?app=" + appA.String() + "&limit=2"
	if len(f.forwarded) != 5 || f.forwarded[2] != want {
		t.Errorf("forwarded %q, want %q", f.forwarded, want)
	}
}

func TestNodesThatCannotAnswer(t *testing.T) {
	c, f, _ := two(t)
	var failed *Failure
	if _, err := c.At("n9").Status(t.Context()); !errors.As(err, &failed) || failed.Status != http.StatusNotFound {
		t.Errorf("no such node: %v", err)
	}
	f.other = nil
	if _, err := c.At("n2").Status(t.Context()); !errors.As(err, &failed) || failed.Status != http.StatusBadGateway {
		t.Errorf("a node that is gone: %v", err)
	}
}

// A node answers for another what reads, once, and no more than one call carries.
func TestRequestsBetweenNodesAreBounded(t *testing.T) {
	n := newFakeNode()
	f := &fakeCluster{}
	n.cluster = f
	s := newServer(t, n, func(c *Config) { c.NodeID = "n2" })
	for _, tc := range []struct {
		method, path string
		body         []byte
		want         int
	}{
		{"GET", "/v1/status", nil, 200},
		{"GET", "/readyz?verbose=", nil, 200},
		{"GET", "/v1/status?node=n2", nil, 200},
		{"GET", "/v1/status?node=n3", nil, 400},
		{"GET", "/v1/status", []byte("x"), 400},
		{"GET", "v1/status", nil, 400},
		{"GET", "/%", nil, 400},
		{"", "/v1/status", nil, 200},
		{"NO WAY", "/v1/status", nil, 400},
		{"POST", "/v1/leave", nil, 404},
		{"DELETE", "/v1/members/n1", nil, 404},
		{"POST", "/v1/apps", nil, 405},
		{"GET", "/v1/snapshot", nil, 404},
		{"GET", "/metrics", nil, 404},
		{"GET", "/debug/pprof/", nil, 404},
	} {
		if status, _ := s.Answer(t.Context(), tc.method, tc.path, tc.body); status != tc.want {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, status, tc.want)
		}
	}
	if len(f.changed)+len(f.forwarded) > 0 {
		t.Errorf("something was done: %v %v", f.changed, f.forwarded)
	}
	f.status.Nodes = make([]NodeStatus, 5000)
	if status, body := s.Answer(t.Context(), "GET", "/v1/cluster", nil); status != http.StatusRequestEntityTooLarge || len(body) > 4096 || !strings.Contains(string(body), "limit") {
		t.Errorf("an answer that is too large: %d, %d bytes", status, len(body))
	}
}

func TestPanicWhileAnsweringForAnotherNode(t *testing.T) {
	n := newFakeNode()
	n.cluster = panicking{}
	s := newServer(t, n, nil)
	if status, _ := s.Answer(t.Context(), "GET", "/v1/members", nil); status != http.StatusInternalServerError {
		t.Errorf("%d", status)
	}
}

type panicking struct{ Cluster }

func (panicking) Members(context.Context) ([]Member, error) { panic("a mistake") }

func TestClusterIsChanged(t *testing.T) {
	c, f, _ := two(t)
	ctx := t.Context()
	if l, err := c.Members(ctx); err != nil || len(l) != 2 || !l[0].Leader {
		t.Errorf("members: %+v, %v", l, err)
	}
	if r, err := c.Leave(ctx); err != nil || r.NodeID != "n1" {
		t.Errorf("leave: %+v, %v", r, err)
	}
	if r, err := c.ForceRemove(ctx, "n2"); err != nil || r.NodeID != "n2" {
		t.Errorf("force-remove: %+v, %v", r, err)
	}
	if r, err := c.Revoke(ctx, "n3"); err != nil || r.NodeID != "n3" {
		t.Errorf("revoke: %+v, %v", r, err)
	}
	if k, err := c.AddKey(ctx, AddKey{Secret: "canary-secret-of-the-cluster"}); err != nil || k.ID != "k2" || f.added != "canary-secret-of-the-cluster" {
		t.Errorf("add: %+v, %v", k, err)
	}
	if _, err := c.UseKey(ctx, "k2"); err != nil {
		t.Errorf("use: %v", err)
	}
	if err := c.DropKey(ctx, "k1"); err != nil {
		t.Errorf("drop: %v", err)
	}
	if l, err := c.Keys(ctx); err != nil || len(l.Keys) != 1 || l.Keys[0].Missing == nil || l.Members[0].Keys == nil {
		t.Errorf("keys: %+v, %v", l, err)
	}
	want := "leave, remove n2, revoke n3, add, use k2, drop k1"
	if got := strings.Join(f.changed, ", "); got != want {
		t.Errorf("changed %s, want %s", got, want)
	}
	var failed *Failure
	for name, tc := range map[string]struct {
		failure error
		want    int
	}{
		"not yet": {fmt.Errorf("n3 lacks it: %w", ErrNotYet), 409}, "no leader": {fmt.Errorf("no leader: %w", ErrUnavailable), 503},
		"itself": {fmt.Errorf("itself: %w", ErrRefused), 400}, "unknown": {fmt.Errorf("n7: %w", ErrNotFound), 404},
	} {
		f.failure = tc.failure
		if err := c.DropKey(ctx, "k1"); !errors.As(err, &failed) || failed.Status != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := len(f.changed)
	for name, err := range map[string]error{
		"odd name": second(c.ForceRemove(ctx, "N 1")), "odd key": c.DropKey(ctx, "a b"), "long key": second(c.UseKey(ctx, strings.Repeat("k", 65))),
		"long secret": second(c.AddKey(ctx, AddKey{Secret: Secret(strings.Repeat("s", 1025))})),
	} {
		if !errors.As(err, &failed) || failed.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(f.changed) != before {
		t.Error("something was changed all the same")
	}
}

func TestSnapshotIsWholeOrAnError(t *testing.T) {
	c, f, _ := two(t)
	var got bytes.Buffer
	if err := c.Snapshot(t.Context(), &got); err != nil || got.Len() != 100_000 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	f.cut = true
	if err := c.Snapshot(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("one that was cut off: %v", err)
	}
	f.failure = fmt.Errorf("no table yet: %w", ErrUnavailable)
	var failed *Failure
	if err := c.Snapshot(t.Context(), io.Discard); !errors.As(err, &failed) || failed.Status != http.StatusServiceUnavailable {
		t.Errorf("none: %v", err)
	}
}

func TestStatusNamesPairsThatCannotReachEachOther(t *testing.T) {
	since := time.Unix(1_800_000_000, 0).UTC()
	st := ClusterStatus{Nodes: []NodeStatus{
		{NodeID: "n1", CommitIndex: 10, AppliedIndex: 10, Links: []Link{{Peer: "n2", Since: since}, {Peer: "n3", Connected: true}, {Peer: "n4"}}},
		{NodeID: "n2", CommitIndex: 9, AppliedIndex: 4, Links: []Link{{Peer: "n1", Since: since, Error: "connection refused"}}},
		{NodeID: "n3", CommitIndex: 8, AppliedIndex: 12},
		{NodeID: "n4", Error: "no answer within 2s", Links: []Link{{Peer: "n1"}}},
	}}
	st.conclude()
	if want := []Pair{{From: "n2", To: "n1", Since: since, Error: "connection refused"}}; len(st.Unreachable) != 1 || st.Unreachable[0] != want[0] {
		t.Errorf("pairs %+v, want %+v", st.Unreachable, want)
	}
	if st.Nodes[0].Lag != 0 || st.Nodes[1].Lag != 6 || st.Nodes[2].Lag != 0 {
		t.Errorf("lags %+v", st.Nodes)
	}
}

func TestReadinessAsksTheCluster(t *testing.T) {
	c, f, _ := two(t)
	if r, err := c.Ready(t.Context()); err != nil || !r.Ready || len(r.Checks) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	f.ready = errors.New("no leader is known")
	if r, err := c.Ready(t.Context()); err != nil || r.Ready || r.Checks[1] != (Check{Name: "cluster", Detail: "no leader is known"}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNodeWithoutACluster(t *testing.T) {
	c := running(t, newFakeNode(), nil)
	var failed *Failure
	for name, err := range map[string]error{
		"members": second(c.Members(t.Context())), "leave": second(c.Leave(t.Context())), "snapshot": c.Snapshot(t.Context(), io.Discard),
		"another node": second(c.At("n2").Status(t.Context())),
	} {
		if !errors.As(err, &failed) || failed.Status != http.StatusNotImplemented {
			t.Errorf("%s: %v", name, err)
		}
	}
}
