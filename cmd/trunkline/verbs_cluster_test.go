package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/cluster/trust"
)

// stillCluster is a cluster of four nodes of which nothing changes. n4 does not answer, and n2 and n3 have no link.
type stillCluster struct{ n stillNode }

var then = time.Unix(1_800_000_000, 0).UTC()

func (stillCluster) Ready() error {
	return errors.New("it is 3 entries behind what was agreed on when it started")
}

func (stillCluster) Members(context.Context) ([]admin.Member, error) {
	return []admin.Member{
		{NodeID: "n1", Number: 1, Boot: 2, Session: 4, Region: "eu", NodeAddr: "10.0.0.1:7947", GossipAddr: "10.0.0.1:7946", Version: "v1.2.3", State: "live", Role: "voter", Leader: true, LeaseMillis: 5400},
		{NodeID: "n2", Number: 2, Boot: 1, Session: 9, Region: "eu", NodeAddr: "10.0.0.2:7947", GossipAddr: "10.0.0.2:7946", Version: "v1.2.3", State: "live", Role: "voter", Draining: true, LeaseMillis: 5100, Lag: 2},
		{NodeID: "n3", Number: 3, Boot: 1, Session: 12, Region: "us", NodeAddr: "10.0.0.3:7947", GossipAddr: "10.0.0.3:7946", Version: "v1.2.4", State: "suspect", Role: "non-voter", LeaseMillis: 800, Lag: 31},
		{NodeID: "n4", State: "live", Role: "joining", GossipAddr: "10.0.0.4:7946", LeaseMillis: -1, Lag: -1},
	}, nil
}

func (stillCluster) ClusterStatus(context.Context) (admin.ClusterStatus, error) {
	return admin.ClusterStatus{
		Cluster: "shop", Incarnation: "0123456789abcdef0123456789abcdef", Generation: 1, Profile: "one-region", Region: "eu", AskedAt: "n1",
		Leader: "n1", Term: 7, Voters: []string{"n1", "n2", "n4"}, MaxVoters: 5,
		Nodes: []admin.NodeStatus{
			{NodeID: "n1", Session: 4, Region: "eu", Version: "v1.2.3", Role: "voter", Leader: "n1", Term: 7, LastIndex: 120, CommitIndex: 119, AppliedIndex: 119, LeaseHeld: true, LeaseMillis: 5400, Sessions: 800, Tunnels: 2, SyncMillis: 3.5, Links: []admin.Link{{Peer: "n2", Connected: true, Unacked: 4096, Since: then}, {Peer: "n3", Connected: true, Breaks: 2, Since: then}}},
			{NodeID: "n2", Session: 9, Region: "eu", Version: "v1.2.3", Role: "voter", Leader: "n1", Term: 7, LastIndex: 120, CommitIndex: 118, AppliedIndex: 117, ContactMillis: 40, LeaseHeld: true, LeaseMillis: 5100, Draining: true, Links: []admin.Link{{Peer: "n1", Connected: true, Since: then}, {Peer: "n3", Since: then, Error: "dial 10.0.0.3:7947: i/o timeout"}}},
			{NodeID: "n3", Session: 12, Region: "us", Version: "v1.2.4", Role: "non-voter", Leader: "n1", Term: 7, LastIndex: 90, CommitIndex: 90, AppliedIndex: 88, ContactMillis: 1500, Links: []admin.Link{{Peer: "n2", Since: then}}},
			{NodeID: "n4", Error: "no answer within 2s"},
		},
	}, nil
}

func (stillCluster) Peers(context.Context) (admin.Peers, error) {
	return admin.Peers{Leader: "n1", Term: 7, Peers: []admin.Peer{
		{ServerID: "n1.1", NodeID: "n1", Addr: "10.0.0.1:7947", Voter: true, Leader: true, Self: true},
		{ServerID: "n2.8", NodeID: "n2", Addr: "10.0.0.2:7947", Voter: true, ContactMillis: 40},
		{ServerID: "n3.11", NodeID: "n3", Addr: "10.0.0.3:7947", ContactMillis: -1},
	}}, nil
}

func (stillCluster) Leave(context.Context) error { return nil }

func (stillCluster) ForceRemove(_ context.Context, node string) error {
	if node == "n1" {
		return fmt.Errorf("n1 is this node: have it leave with `trunkline leave`: %w", admin.ErrRefused)
	}
	return nil
}

func (c stillCluster) Revoke(ctx context.Context, node string) error {
	return c.ForceRemove(ctx, node)
}

func (stillCluster) Snapshot(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "a snapshot")
	return err
}

func (stillCluster) Keys(context.Context) (admin.KeyList, error) {
	return admin.KeyList{
		Cluster: "shop",
		Keys:    []admin.Key{{ID: "77aa0000", Primary: true, Missing: []string{}}, {ID: "5f2a9c01", Missing: []string{"n2"}}},
		Members: []admin.KeyMember{
			{NodeID: "n1", Primary: "77aa0000", Keys: []string{"77aa0000", "5f2a9c01"}},
			{NodeID: "n2", Primary: "77aa0000", Keys: []string{"77aa0000"}},
			{NodeID: "n4", Error: "no answer within 2s"},
		},
	}, nil
}

func (stillCluster) AddKey(_ context.Context, s admin.Secret) (string, error) {
	if s != "" && s != "canary-secret-of-the-cluster" {
		return "", admin.ErrRefused
	}
	return "5f2a9c01", nil
}

func (stillCluster) UseKey(_ context.Context, id string) error {
	if id != "5f2a9c01" {
		return fmt.Errorf("n2 lacks %s: send it again with `trunkline key add`: %w", id, admin.ErrNotYet)
	}
	return nil
}
func (stillCluster) DropKey(context.Context, string) error { return nil }

func (c stillCluster) Forward(ctx context.Context, node, method, path string, body []byte) (int, []byte, error) {
	if node != "n2" {
		return 0, nil, fmt.Errorf("no member is called %s: %w", node, admin.ErrNotFound)
	}
	var answer any
	switch path {
	case "/v1/status":
		st, _ := c.n.Status(ctx)
		st.NodeID, st.NodeSession = "n2", 9
		answer = st
	case "/readyz?verbose=":
		answer = admin.Readiness{Ready: true, Checks: []admin.Check{{Name: "serving", OK: true}}}
	default:
		return 501, []byte(`{"error":{"code":"no_cluster","message":"none"}}`), nil
	}
	text, err := json.Marshal(answer)
	return 200, text, err
}

// stillFiles are the offline functions with fixed answers; did keeps what was changed.
func stillFiles(did *[]string) offline {
	return offline{
		keygen: trust.Generate,
		inspect: func(r io.Reader) (snapshotInfo, error) {
			text, err := io.ReadAll(r)
			if err == nil && string(text) != "a snapshot" {
				err = errors.New("the checksum is wrong: the file is damaged")
			}
			return snapshotInfo{Cluster: "shop", Incarnation: "0123456789abcdef0123456789abcdef", Generation: 1, Term: 7, Index: 119, SavedAt: then, SavedBy: "n1.1", Bytes: int64(len(text)), Apps: 2, Instances: 3, States: 40}, err
		},
		restore: func(dir string, _ io.Reader) (restoreReport, error) {
			*did = append(*did, "restore "+dir)
			return restoreReport{NewGeneration: 2, Revoked: []string{"n7"}, Readmitted: []string{"n9"}}, nil
		},
		recover: func(cfg recoverConfig) (recoverReport, error) {
			if cfg.Apply {
				*did = append(*did, "recover "+cfg.DataDir)
			}
			r := recoverReport{Cluster: "shop", NodeID: "n1", ServerID: "n1.1", Term: 7, LastIndex: 120, Generation: 1}
			if cfg.Apply {
				r.NewGeneration = 2
			}
			return r, nil
		},
	}
}

func TestOfflineVerbsPrintTablesAndJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("table.snap", []byte("a snapshot"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := stillAdmin(t)
	for name, args := range map[string]string{
		"snapshot-save":    "snapshot save saved.snap --overwrite --admin " + address,
		"snapshot-inspect": "snapshot inspect table.snap",
		"snapshot-restore": "snapshot restore table.snap --data-dir data --yes",
		"recover":          "recover --data-dir data --yes",
	} {
		for ending, flag := range map[string]string{".txt": "", ".json": " --json"} {
			var did []string
			th := newTheatre("")
			th.offline = stillFiles(&did)
			if status := play(t, th, strings.Fields(args+flag)...); status != exitDone {
				t.Errorf("%s: status %d: %s", args, status, th.err.String())
			}
			goldenIn(t, name+ending, th.out.String())
			if changes := strings.Contains(args, "--yes"); (len(did) == 1) != changes {
				t.Errorf("%s: did %q", args, did)
			}
		}
	}
	info, err := os.Stat("saved.snap")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the saved snapshot: %v, %v", info, err)
	}
}

// goldenIn is golden for a test that has left its folder.
func goldenIn(t *testing.T, name, got string) {
	t.Helper()
	golden(t, filepath.Join(packageFolder, "testdata", name), got)
}

var packageFolder, _ = os.Getwd()

func TestVerbsThatTakeAwayAsk(t *testing.T) {
	address := stillAdmin(t)
	snap := write(t, "table.snap", "a snapshot", 0o600)
	for _, tc := range []struct{ args, word string }{
		{"leave --admin " + address, "n1"},
		{"force-remove n3 --admin " + address, "n3"},
		{"revoke n3 --admin " + address, "n3"},
		{"key drop 77aa0000 --admin " + address, "77aa0000"},
		{"snapshot restore " + snap + " --data-dir d", "restore"},
		{"recover --data-dir d", "n1"},
		{"recover --data-dir d --json", "n1"},
	} {
		for typed, want := range map[string]int{tc.word + "\n": exitDone, "y\n": exitFailed, "": exitFailed} {
			var did []string
			th := newTheatre(typed)
			th.offline = stillFiles(&did)
			if status := play(t, th, strings.Fields(tc.args)...); status != want {
				t.Errorf("%s, typed %q: status %d, want %d: %s", tc.args, typed, status, want, th.err.String())
			}
			if want == exitFailed && (len(did) > 0 || !strings.Contains(th.err.String(), "nothing was done")) {
				t.Errorf("%s, typed %q: did %q and said %s", tc.args, typed, did, th.err.String())
			}
			if typed == "" && !strings.Contains(th.err.String(), "to go on: \ntrunkline: ") {
				t.Errorf("%s, at the end of the input: the answer is on the line of the question: %s", tc.args, th.err.String())
			}
		}
	}
}

func TestSnapshotsReplaceNoFileUnasked(t *testing.T) {
	file := write(t, "table.snap", "yesterday's", 0o600)
	th := newTheatre("", "TRUNKLINE_ADMIN", stillAdmin(t))
	th.offline = stillFiles(new([]string))
	if status := play(t, th, "snapshot", "save", file); status != exitFailed || !strings.Contains(th.err.String(), "--overwrite") {
		t.Errorf("status %d: %s", status, th.err.String())
	}
	if text, err := os.ReadFile(file); string(text) != "yesterday's" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

func TestDamagedSnapshotsAreNotKept(t *testing.T) {
	dir := t.TempDir()
	th := newTheatre("")
	th.offline = stillFiles(new([]string))
	th.offline.inspect = func(io.Reader) (snapshotInfo, error) { return snapshotInfo{}, errors.New("the checksum is wrong") }
	if status := play(t, th, "snapshot", "save", filepath.Join(dir, "x"), "--admin", stillAdmin(t)); status != exitFailed || !strings.Contains(th.err.String(), "checksum") {
		t.Errorf("status %d: %s", status, th.err.String())
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("%d files are left", len(list))
	}
	th = newTheatre("")
	th.offline = stillFiles(new([]string))
	if status := play(t, th, "snapshot", "restore", write(t, "bad", "something else", 0o600), "--data-dir", dir, "--yes"); status != exitFailed || !strings.Contains(th.err.String(), "damaged") {
		t.Errorf("status %d: %s", status, th.err.String())
	}
}

func TestKeygen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.key")
	for _, tc := range []struct {
		args, says string
		want       int
	}{
		{"keygen", "", exitDone},
		{"keygen my/shop", "letters", exitMisuse},
		{"keygen shop -o " + file, file, exitDone},
		{"keygen shop -o " + file, "may live by it", exitFailed},
		{"keygen -o /nowhere/at/all", "--output", exitFailed},
	} {
		th := newTheatre("")
		th.offline = stillFiles(new([]string))
		if status := play(t, th, strings.Fields(tc.args)...); status != tc.want || !strings.Contains(th.err.String(), tc.says) {
			t.Errorf("%s: status %d, %s", tc.args, status, th.err.String())
		}
		if printed := th.out.String() != ""; printed != (tc.args == "keygen") {
			t.Errorf("%s printed %q", tc.args, th.out.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(text, []byte("trunkline-key 1 shop\n")) {
		t.Errorf("the file: %q, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if keys, err := trust.LoadKeys(file); err != nil || keys.Name() != "shop" {
		t.Errorf("the file is not taken: %v", err)
	}
}

func TestClusterVerbsSayWhatToDo(t *testing.T) {
	address := stillAdmin(t)
	secret := write(t, "secret", "canary-secret-of-the-cluster\n", 0o600)
	for _, tc := range []struct {
		args, says string
		want       int
	}{
		{"members --node n9", "no member is called n9", exitFailed},
		{"members --node n2", "none", exitFailed},
		{"force-remove n1 --yes", "trunkline leave", exitFailed},
		{"revoke N_1 --yes", "trunkline members", exitFailed},
		{"key use 00000000", "key add", exitFailed},
		{"key add --secret-file " + secret, "", exitDone},
		{"key add --secret-file /nowhere", "--secret-file", exitFailed},
		{"force-remove", "expected", exitMisuse},
		{"snapshot restore x", "--data-dir", exitMisuse},
		{"recover", "--data-dir", exitMisuse},
	} {
		th := newTheatre("", "TRUNKLINE_ADMIN", address)
		th.offline = stillFiles(new([]string))
		if status := play(t, th, strings.Fields(tc.args)...); status != tc.want || !strings.Contains(th.err.String(), tc.says) {
			t.Errorf("%s: status %d, %s", tc.args, status, th.err.String())
		}
	}
}

// What a cluster cannot tell does not hide what the node does.
func TestStatusOfANodeWhoseClusterCannotBeAsked(t *testing.T) {
	var out bytes.Buffer
	clusterRows(&out, &admin.ClusterStatus{AskedAt: "n1", Voters: []string{"n1", "n2", "n3"}, Nodes: []admin.NodeStatus{{NodeID: "n1"}}})
	for _, want := range []string{"none known at n1", "too few of them answer"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing: %s", want, out.String())
		}
	}
	for voters, want := range map[string]string{"n1": "none may fail", "n1 n2 n3": "1 more may fail"} {
		c := &admin.ClusterStatus{Voters: strings.Fields(voters)}
		for _, v := range c.Voters {
			c.Nodes = append(c.Nodes, admin.NodeStatus{NodeID: v})
		}
		if got := spareWord(c); got != want {
			t.Errorf("%s: %s", voters, got)
		}
	}
}

func TestForceRemoveSaysThatANodeIsLive(t *testing.T) {
	for node, live := range map[string]bool{"n2": true, "n3": false} {
		th := newTheatre(node+"\n", "TRUNKLINE_ADMIN", stillAdmin(t))
		if status := play(t, th, "force-remove", node); status != exitDone {
			t.Fatalf("status %d: %s", status, th.err.String())
		}
		if strings.Contains(th.err.String(), "live now") != live || strings.Contains(th.out.String(), "was live") != live {
			t.Errorf("%s: asks %q and says %q", node, th.err.String(), th.out.String())
		}
	}
}
