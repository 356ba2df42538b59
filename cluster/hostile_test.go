package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// other is a node that holds a certificate of the cluster, and does not mean well.
var other = nodeport.Peer{NodeID: "n2", KeyHash: [32]byte{2}}

// code is what another node is told.
func code(err error) uint16 {
	var e *control.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code
}

func TestANodeSpeaksForItselfOnly(t *testing.T) {
	n := start(t, Config{Link: func(context.Context, net.Conn, wire.NodeSession) { t.Error("a link was served") }})
	ctx := t.Context()
	key := n.identity.KeyHash()
	for name, a := range map[string]*ask{
		"a session of another node":      commands(&placement.OpenSession{NodeID: "n1", Key: other.KeyHash, Proto: Proto}),
		"a session with another's key":   commands(&placement.OpenSession{NodeID: "n2", Key: key, Proto: Proto}),
		"a request of another's session": {kind: askCommands, body: commands(&placement.Untaint{}).body, count: 1, request: placement.Request{Session: n.Node(), Counter: 1}},
		"a session among other commands": commands(&placement.Untaint{}, &placement.OpenSession{NodeID: "n1", Key: key, Proto: Proto}),
	} {
		if _, err := n.takeAsks(ctx, other, appendAsks(nil, []*ask{a})); code(err) != codeDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	own := renewalReport{session: n.Node(), applied: 1, server: "n1.1"}
	if _, err := n.takeRenewal(ctx, other, own.append(nil)); code(err) != codeDenied {
		t.Errorf("renewed the session of another node: %v", err)
	}
	if _, err := n.takeLeave(ctx, other, appendText(appendU64(nil, uint64(n.Node())), "n1")); code(err) != codeDenied {
		t.Errorf("left for another node: %v", err)
	}
	if _, err := n.takeEntry(ctx, other, appendText(appendText(nil, "n1.1"), "127.0.0.1:9")); err == nil {
		t.Error("moved the replica of another node to its own address")
	}
	n.refusesLinkOf(other, n.Node())
	if s, ok := n.Table().Session(n.Node()); !ok || s.Node != "n1" || len(n.Table().Sessions()) != 1 {
		t.Errorf("sessions are %+v", n.Table().Sessions())
	}
}

// refusesLinkOf says that a session is the peer's, which it is not.
func (r *running) refusesLinkOf(peer nodeport.Peer, from wire.NodeSession) {
	r.t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	go func() {
		head := binary.BigEndian.AppendUint64(nil, uint64(from))
		_, _ = there.Write(binary.BigEndian.AppendUint64(head, uint64(r.Node())))
	}()
	if got, err := r.greet(r.t.Context(), here, peer); err == nil {
		r.t.Errorf("a link of node session %d was taken from %s", got, peer.NodeID)
	}
}

func TestANodeCannotMakeItselfAVoter(t *testing.T) {
	n := start(t, Config{})
	ctx := t.Context()
	text, err := n.authority.Load().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.takeAuthority(ctx, other, text); code(err) != codeDenied {
		t.Errorf("took what signs certificates from a stranger: %v", err)
	}
	entry, err := n.takeEntry(ctx, other, appendText(appendText(nil, ""), "127.0.0.1:9"))
	if err != nil || entry[0] != entered {
		t.Fatalf("entered: %x, %v", entry, err)
	}
	server := string(entry[2:])
	for range 2 { // what it asks for again is what it has
		if again, err := n.takeEntry(ctx, other, appendText(appendText(nil, server), "127.0.0.1:9")); err != nil || string(again) != string(entry) {
			t.Errorf("entered again: %x, %v", again, err)
		}
	}
	if _, err := n.takeAuthority(ctx, other, text); code(err) != codeDenied {
		t.Errorf("took what signs certificates from a node without a vote: %v", err)
	}
	if err := n.seeToVoters(ctx); err != nil {
		t.Error(err)
	}
	for _, s := range n.replica.Load().Servers() {
		if nodeOf(s.ID) != "n1" && s.Voter {
			t.Errorf("%s votes", s.ID)
		}
	}
}

func TestAClusterIsFormedOnce(t *testing.T) {
	dir, _ := kept(t)
	n := start(t, Config{DataDir: dir})
	before := n.Table().Incarnation()
	form := commands(&placement.Form{Generation: 1 << 20, Name: "mine"})
	if _, err := n.takeAsks(t.Context(), other, appendAsks(nil, []*ask{form})); code(err) != codeBadAsk {
		t.Errorf("another node has it formed again: %v", err)
	}
	if r, err := n.one(t.Context(), &placement.Form{Generation: 1 << 20, Name: "mine"}); err == nil && r.Outcome == placement.Done {
		t.Error("the node itself formed it again")
	}
	if c := n.Table().Cluster(); c.Incarnation != before || c.Name == "mine" {
		t.Errorf("it was formed again, as %+v", c)
	}
	n.halt()
	if err := os.Remove(filepath.Join(dir, nodeFolder, memberFile)); err != nil {
		t.Fatal(err)
	}
	if again, err := openIn(t, dir); err == nil {
		_ = again.Close()
		t.Error("a cluster was formed where there is a table of one")
	} else {
		t.Log(err)
	}
}

// filesOf returns the files of a data directory, and those of them that others than their owner could open.
func filesOf(t *testing.T, dir string) (files, open []string) {
	t.Helper()
	shut := map[string]bool{} // folders that others cannot look into
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		private := err == nil && (st.Mode().Perm()&0o077 == 0 || shut[filepath.Dir(path)])
		switch {
		case d.IsDir():
			shut[path] = private
		case !private:
			open = append(open, path)
			fallthrough
		default:
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, open
}

// TestFilesOfTheClusterArePrivate: what a node writes is for its owner alone, and what is not, or is a link, is refused.
func TestFilesOfTheClusterArePrivate(t *testing.T) {
	dir, _ := kept(t)
	if err := os.Chmod(dir, 0o755); err != nil { // as an operator may have made it
		t.Fatal(err)
	}
	files, open := filesOf(t, dir)
	if len(open) > 0 {
		t.Errorf("others may open %v", open)
	}
	refused := func(path, how string) {
		t.Helper()
		n, err := openIn(t, dir)
		if err == nil {
			_ = n.Close()
			t.Errorf("%s, %s: opened", path, how)
		} else if !strings.Contains(err.Error(), "chmod") && !strings.Contains(err.Error(), "link") {
			t.Errorf("%s, %s: %v", path, how, err)
		}
	}
	seen := 0
	for _, path := range files {
		if filepath.Base(filepath.Dir(path)) != nodeFolder || filepath.Ext(path) == ".crt" {
			continue // certificates are public, and the table's files have a test of their own
		}
		seen++
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		refused(path, "mode 0640")
		if err := errors.Join(os.Chmod(path, 0o600), os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
			t.Fatal(err)
		}
		refused(path, "a link")
		if err := os.Rename(path+".real", path); err != nil {
			t.Fatal(err)
		}
	}
	if seen < 4 { // member, node.key, ca.key, cluster.key
		t.Errorf("%d files of %v were tried", seen, files)
	}
	if _, err := trust.LoadKeys(filepath.Join(dir, nodeFolder, ownKeyFile)); err != nil {
		t.Error(err)
	}
	start(t, Config{DataDir: dir}).halt()
}
