package cluster

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
)

// The leader's disk is full. It goes, another one leads, and what was acknowledged is there; with room again it is a
// member as before.
func TestLeadersDiskIsFull(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := plannedWorld(t, seed, "us", "us", "us")
		small := w.nodes[0] // forms the cluster, so it leads at first
		if err := os.Mkdir(small.data(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", small.data(), "tmpfs", 0, "size=24m,mode=700"); err != nil {
			t.Skipf("no small disk: mount a tmpfs: %v", err)
		}
		t.Cleanup(func() {
			small.process.kill()
			if err := syscall.Unmount(small.data(), syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount the small disk: %v", err)
			}
		})
		for _, n := range w.nodes {
			n.start()
			w.ready(n)
		}
		w.together(patience)
		w.voters(3)
		names := []string{"n2", "n3"}
		l := w.work(plan{backends: 2, players: 6, tunnels: names, edges: names})
		if leader := w.leader(); leader != small {
			t.Fatalf("%s leads, not the node with the small disk", leader.name)
		}
		at := time.Now()
		written := l.fill(func() bool { return w.nodes[1].follows(small) })
		t.Logf("%d MiB of entries in %v, and another node leads", written>>20, time.Since(at).Round(time.Millisecond))
		t.Logf("states are created %v later", l.creatable(t, w.nodes[1]).Round(time.Millisecond))
		if said := small.said(); !strings.Contains(said, "no space left") {
			t.Error("the log of the node does not say that its disk is full")
		}
		// Room again, as an operator makes it; a supervisor starts the node if it has ended.
		if err := syscall.Mount("tmpfs", small.data(), "tmpfs", syscall.MS_REMOUNT, "size=256m,mode=700"); err != nil {
			t.Fatal(err)
		}
		t.Logf("the node with the full disk ended by itself: %v", !small.runs())
		if !small.runs() {
			small.start()
		}
		w.ready(small)
		w.together(patience)
		w.settle()
	})
}

// follows says whether the node knows a leader that is not the one before.
func (n *node) follows(before *node) bool {
	ctx, cancel := call()
	defer cancel()
	p, err := n.operator().Peers(ctx)
	return err == nil && p.Leader != "" && p.Leader != before.name
}

// fill writes entries of 15 KiB, several at a time, until told to stop.
func (l *load) fill(full func() bool) (written int) {
	l.w.t.Helper()
	filler := newApp()
	until(l.w.t, "an app that takes room", patience, func() bool {
		ctx, cancel := call()
		defer cancel()
		_, err := l.w.nodes[1].operator().CreateApp(ctx, admin.CreateApp{Secret: admin.Secret(filler.secret)})
		return err == nil
	})
	const size = 15 << 10
	done := make(chan int)
	stop := make(chan struct{})
	for i := range 8 {
		go func() {
			n := 0
			defer func() { done <- n }()
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := call()
				login := fmt.Sprintf(`{"nickname":{},"filler":"%s%d.%d"}`, strings.Repeat("x", size), i, k)
				if _, err := l.w.nodes[1+k%2].operator().SetApp(ctx, filler.id, admin.SettingsChange{PinnedLogin: []byte(login)}); err == nil {
					n += size
				}
				cancel()
			}
		}()
	}
	ok := within(2*patience, full)
	close(stop)
	for range 8 {
		written += <-done
	}
	if !ok {
		l.w.t.Fatalf("%d MiB of entries have not filled the disk", written>>20)
	}
	return written
}

// The leader's disk answers late, then not at all: another node leads, and nothing that was acknowledged is lost.
func TestLeadersDiskIsSlow(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("the command strace, which makes a disk slow, is not installed; cluster/consensus tests this in memory")
	}
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 3, players: 6, moves: true})
		w.voters(3)
		slow := w.leader()
		others := w.others(slow)
		heal := slow.syncs("delay_enter=300ms")
		if took := l.creatable(t, others[0]); took > patience/2 {
			t.Errorf("with syncs of 300 ms a create took %v", took)
		}
		pause(t, longer(3*time.Second, 20*time.Second))
		heal()
		slow = w.leader()
		others = w.others(slow)
		at := time.Now()
		heal = slow.syncs("delay_enter=10s")
		until(t, "another leader", patience, func() bool { return others[0].follows(slow) })
		l.creatable(t, others[0])
		t.Logf("syncs of 10 s at the leader: states are created by another one after %v", time.Since(at).Round(time.Millisecond))
		heal()
		within(15*time.Second, func() bool { return !slow.runs() || slow.serves() })
		t.Logf("the node with the slow disk ended by itself: %v", !slow.runs())
		if !slow.runs() {
			slow.start()
		}
		w.ready(slow)
		w.settle()
	})
}

// syncs has strace make something of every sync of the node, until the function returned is called.
func (n *node) syncs(what string) (heal func()) {
	t := n.world.t
	t.Helper()
	args := []string{"-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:" + what, "-o", os.DevNull, "-p", fmt.Sprint(n.cmd.Process.Pid)}
	p := start(t, "strace", "", exec.Command("strace", args...), nil)
	traced := within(5*time.Second, func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
		return !p.runs() || err == nil && !strings.Contains(string(status), "TracerPid:\t0\n")
	})
	if !traced || !p.runs() {
		t.Skipf("strace may not trace here: %s", p.said())
	}
	return func() {
		p.cmd.Process.Signal(syscall.SIGINT) // lets go of the node
		within(3*time.Second, func() bool { return !p.runs() })
		p.kill() // of a node that has ended meanwhile it may wait for ever
	}
}

// One bit of a stopped node's log has changed: its checksum tells, the node fetches everything anew, and nobody is ever
// told what was in it.
func TestFlippedBitIsRefusedAndFetchedAnew(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 2, players: 6, hosts: 2})
		w.voters(3)
		for range longer(1, 5) {
			hurt := w.any(w.nodes)
			before := w.server(hurt, hurt.name)
			until(t, hurt.name+" to have noted that there are others to fetch from", patience, func() bool { return !hurt.only() })
			hurt.kill()
			file, at := hurt.flip()
			hurt.restart()
			if !strings.Contains(hurt.said(), "checksum") {
				t.Errorf("%s does not say that byte %d of %s is damaged", hurt.name, at, file)
			}
			w.voters(3)
			if now := w.server(w.others(hurt)[0], hurt.name); now == before {
				t.Errorf("%s is %s as before, though what it had voted for is gone", hurt.name, now)
			}
			t.Logf("%s had a flipped bit at byte %d of %s", hurt.name, at, file)
			l.everybody(time.Now())
		}
		w.settle()
	})
}

// only says whether the node's data directory has it down as the only voter, which it learns of within a second.
func (n *node) only() bool {
	b, err := os.ReadFile(filepath.Join(n.data(), "node", "member"))
	return err != nil || strings.Contains(string(b), `"only"`)
}

// flip changes a bit in the part of the node's log that is written, not in its last batch: that may be half written.
func (n *node) flip() (name string, at int) {
	t := n.world.t
	t.Helper()
	var files []string
	err := filepath.WalkDir(n.data(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(path, "log-") || strings.HasSuffix(path, "state.bin")) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no log in %s: %v", n.data(), err)
	}
	file := files[n.world.dice.IntN(len(files))]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	used := len(data)
	for used > 0 && data[used-1] == 0 {
		used--
	}
	at = used/8 + n.world.dice.IntN(used/2)
	data[at] ^= 1 << n.world.dice.IntN(8)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data[at:at+1], int64(at)); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(file), at
}

// Two of three voters are lost; the third is recovered. Then the lost ones come back with their data: they take over its
// table and throw theirs away.
func TestRecoverAfterTwoOfThreeAreLost(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 2, players: 6, moves: true})
		w.voters(3)
		pause(t, time.Second)
		l.busy.Store(false) // what is under way when a quorum is lost may be lost with it
		w.sameTables()
		before, err := w.nodes[0].status()
		if err != nil {
			t.Fatal(err)
		}
		kept := w.any(w.nodes)
		for _, n := range w.nodes {
			n.kill()
		}
		out, err := kept.verb("recover", "--data-dir", kept.data(), "--yes")
		if err != nil {
			t.Fatalf("recover: %v: %s", err, out)
		}
		flags := kept.flags
		kept.flags = nil // as it says
		at := time.Now()
		kept.restart()
		l.creatable(t, kept)
		t.Logf("the recovered node alone creates states after %v", time.Since(at).Round(time.Millisecond))
		after, err := kept.status()
		if err != nil {
			t.Fatal(err)
		}
		if after.Incarnation == before.Incarnation || after.Generation <= before.Generation {
			t.Errorf("incarnation and generation were %s, %d and are %s, %d", before.Incarnation, before.Generation, after.Incarnation, after.Generation)
		}
		l.busy.Store(true)
		for _, n := range w.nodes {
			if n != kept {
				if !slices.Contains(n.flags, "--join") {
					n.flags = []string{"--join", kept.host.Addr.String()}
				}
				n.restart()
			}
		}
		w.together(patience)
		w.voters(3)
		kept.kill()
		kept.flags = flags
		kept.restart()
		w.settle()
	})
}
