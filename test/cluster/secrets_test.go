package cluster

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Somebody logs in at one node; when that is gone, all others know him.
func TestLoginIsFoundWhenItsNodeIsGone(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 1, players: 3})
		w.voters(3)
		at := w.any(w.nodes)
		ctx, cancel := call()
		defer cancel()
		token, err := at.api().Nickname(ctx, l.app.id, "known-everywhere")
		if err != nil {
			t.Fatal(err)
		}
		user := userOf(t, token)
		logged := time.Now()
		others := w.others(at)
		known := func(n *node) bool {
			ctx, cancel := call()
			defer cancel()
			answer, err := n.api().Call(ctx, http.MethodGet, "/users/"+user, nil, nil)
			return err == nil && answer.Status == http.StatusOK && strings.Contains(string(answer.Body), "known-everywhere")
		}
		until(t, "another node to know the login", patience, func() bool { return known(others[0]) || known(others[1]) })
		t.Logf("another node knows the login after %v", time.Since(logged).Round(time.Millisecond))
		at.kill()
		for _, n := range others {
			until(t, n.name+" to know the login", 10*time.Second, func() bool { return known(n) })
		}
		// It is on the disk too.
		others[1].kill()
		others[1].restart()
		at.restart()
		others[0].kill()
		if !known(others[1]) {
			t.Errorf("%s, which started again, has forgotten the login", others[1].name)
		}
		others[0].restart()
		w.settle()
	})
}

// userOf reads the user out of a token.
func userOf(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	var claims struct{ ID string }
	if len(parts) == 3 {
		if body, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(body, &claims)
		}
	}
	if claims.ID == "" {
		t.Fatal("a token without a user")
	}
	return claims.ID
}

// The cluster's secret is replaced in three steps while everything is at work: no connection is refused or broken. Who
// comes with the old one afterwards is refused.
func TestKeyIsRotatedUnderLoad(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 2, players: 9, moves: true}) // what is on a node that is taken out by force moves
		w.voters(3)
		old, err := os.ReadFile(filepath.Join(w.nodes[0].dir, "key"))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		before := w.breaks()
		operator := w.any(w.nodes).operator()
		for range longer(1, 5) {
			ctx, cancel := call()
			keys, err := operator.Keys(ctx)
			cancel()
			if err != nil || len(keys.Keys) != 1 {
				t.Fatalf("the secrets are %+v: %v", keys, err)
			}
			first := keys.Keys[0].ID
			added := w.step(t, "add", "")
			w.step(t, "use", added)
			w.step(t, "drop", first)
		}
		pause(t, 2*time.Second) // gossip goes on with the new one
		if after := w.breaks(); after != before {
			t.Errorf("%d connections of links broke", after-before)
		}
		for _, e := range l.of("disconnected") {
			if e.at().After(began) {
				t.Errorf("%s was disconnected: %s", e.User, e.Text)
			}
		}
		w.together(5 * time.Second)
		for _, n := range w.nodes {
			if refused := n.metric(t, "trunkline_enrolments_refused_total"); refused != 0 {
				t.Errorf("%s refused %v enrolments", n.name, refused)
			}
		}
		// One that was away, or is new, with the old file.
		late := w.nodes[2]
		now, err := os.ReadFile(filepath.Join(late.dir, "key"))
		if err != nil {
			t.Fatal(err)
		}
		late.kill()
		if err := os.RemoveAll(late.data()); err != nil {
			t.Fatal(err)
		}
		if out, err := w.nodes[0].verb("force-remove", "--yes", late.name); err != nil {
			t.Fatalf("force-remove: %v: %s", err, out)
		}
		late.putKey(old)
		late.start()
		if within(4*time.Second, late.serves) {
			t.Error("a node with the old key file is a member")
		}
		late.kill()
		late.putKey(now)
		late.restart()
		w.settle()
	})
}

// step takes one step of a rotation, again while not all nodes have reported the one before, and answers the secret's id.
func (w *world) step(t *testing.T, verb, id string) (named string) {
	t.Helper()
	args := []string{"key", verb, "--json"}
	if verb == "drop" {
		args = append(args, "--yes")
	}
	if id != "" {
		args = append(args, id)
	}
	var out string
	until(t, "key "+verb+" "+id, patience, func() (done bool) {
		var err error
		out, err = w.any(w.nodes).verb(args...)
		return err == nil
	})
	var answer struct{ ID string }
	if err := json.Unmarshal([]byte(out), &answer); verb != "drop" && err != nil {
		t.Fatalf("key %s answered %q", verb, out)
	}
	return answer.ID
}

// breaks is how many connections of links have broken so far, over all nodes.
func (w *world) breaks() (n uint64) {
	w.t.Helper()
	s, err := w.live()[0].status()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, node := range s.Nodes {
		for _, link := range node.Links {
			n += link.Breaks
		}
	}
	return n
}

// A node is revoked: the others close its connections and take none of it any more.
func TestRevokedNodeIsOutWithinFiveSeconds(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 2, players: 6, tunnels: []string{"n1", "n2"}, edges: []string{"n1", "n2"}, moves: true})
		w.voters(3)
		out := w.nodes[2]
		at := time.Now()
		if said, err := w.nodes[0].verb("revoke", "--yes", out.name); err != nil {
			t.Fatalf("revoke: %v: %s", err, said)
		}
		until(t, "the node to be out", 5*time.Second, func() bool {
			for _, n := range w.others(out) {
				if n.members()[out.name].State != "revoked" || n.connected(out) {
					return false
				}
			}
			return true
		})
		t.Logf("out after %v", time.Since(at).Round(time.Millisecond))
		if until(t, "the node to say that it does not serve", 10*time.Second, func() bool { return !out.runs() || !out.serves() }); out.runs() {
			t.Logf("it says that it does not serve after %v", time.Since(at).Round(time.Millisecond))
		}
		pause(t, longer(3*time.Second, 15*time.Second))
		for _, n := range w.others(out) {
			if n.connected(out) {
				t.Errorf("%s has a connection with a node that was revoked", n.name)
			}
		}
		out.kill()
		l.creatable(t, w.nodes[0])
		w.settle()
	})
}

// connected says whether the kernel knows of an open connection between node ports of two hosts.
func (n *node) connected(other *node) bool {
	data, err := n.host.Command("cat", "/proc/net/tcp", "/proc/net/tcp6").Output()
	if err != nil {
		n.world.t.Fatal(err)
	}
	b := other.host.Addr.As4()
	const established, port = "01", ":1F0B" // 7947
	addr := strings.ToUpper(strconv.FormatUint(uint64(b[3])<<24|uint64(b[2])<<16|uint64(b[1])<<8|uint64(b[0]), 16))
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == established && (strings.HasSuffix(f[1], port) || strings.HasSuffix(f[2], port)) && strings.Contains(f[2], strings.Repeat("0", 8-len(addr))+addr+":") {
			return true
		}
	}
	return false
}

// metric returns one figure of /metrics, 0 when there is none.
func (n *node) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	res, err := (&http.Client{Transport: n.http(), Timeout: 5 * time.Second}).Get("http://127.0.0.1:7180/metrics")
	if err != nil {
		t.Fatalf("read metrics: %v", err)
	}
	defer res.Body.Close()
	var text strings.Builder
	if _, err := io.Copy(&text, res.Body); err != nil {
		t.Fatalf("read metrics: %v", err)
	}
	for line := range strings.Lines(text.String()) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			fields := strings.Fields(rest)
			v, _ := strconv.ParseFloat(fields[len(fields)-1], 64)
			value += v
		}
	}
	return value
}

// Strangers at the ports between nodes: nothing they send is answered or remembered, nobody notices.
func TestStrangersBetweenNodesAreShutOut(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := plannedWorld(t, seed, "us", "us", "us")
		for _, n := range w.nodes[:2] {
			n.start()
			w.ready(n)
		}
		stranger := w.nodes[2].host
		names := []string{"n1", "n2"}
		l := w.work(plan{backends: 2, players: 6, hosts: 2, tunnels: names, edges: names})
		victim := w.nodes[0]
		before, lines := victim.memory(t), strings.Count(victim.said(), "\n")
		began := time.Now()
		var open []net.Conn
		dial := func(network, port string) net.Conn {
			ctx, cancel := call()
			defer cancel()
			conn, err := stranger.Dial(ctx, network, victim.host.Addr.String()+":"+port)
			if err != nil {
				t.Fatalf("dial %s: %v", port, err)
			}
			open = append(open, conn)
			return conn
		}
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		noise := make([]byte, 1400)
		udp := dial("udp", "7946")
		for range longer(2000, 50_000) {
			rand.Read(noise)
			udp.Write(noise)
		}
		first := [][]byte{
			noise, {0xff, 0xff, 0xff, 0xff, 2}, {1, 0xff, 0xff, 0xff, 0xff}, {0x16, 3, 1, 0xff, 0xff}, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), {},
		}
		for range longer(20, 200) {
			for _, b := range first {
				dial("tcp", "7947").Write(b)
				dial("tcp", "7946").Write(b)
			}
		}
		// With TLS and without a certificate, nothing but enrolling is taken: neither raft (1) nor a link (3).
		for _, kind := range []byte{1, 3, 9} {
			c := tls.Client(dial("tcp", "7947"), &tls.Config{InsecureSkipVerify: true})
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if err := c.Handshake(); err != nil {
				continue
			}
			c.Write(append([]byte{kind}, noise...))
			if n, err := c.Read(make([]byte, 100)); err == nil {
				t.Errorf("kind %d without a certificate was answered with %d bytes", kind, n)
			}
		}
		served := l.everybody(time.Now())
		gap, who := l.longest(began, time.Now(), func(string) bool { return true })
		if gap > time.Second+slack {
			t.Errorf("%s waited %v for an answer", who, gap)
		}
		grown := victim.memory(t) - before
		if grown > 256<<20 {
			t.Errorf("the node has grown by %d MiB", grown>>20)
		}
		if said := strings.Count(victim.said(), "\n") - lines; said > 200 {
			t.Errorf("the node wrote %d lines about strangers", said)
		}
		t.Logf("%d connections and as much noise: the node grew by %d MiB, players waited %v at most, a new answer took %v", len(open), grown>>20, gap.Round(time.Millisecond), served.Round(time.Millisecond))

		// A node of another cluster with the same name, and one with a key file that others may read.
		foreign := w.nodes[2]
		path, err := binaryPath()
		if err != nil {
			t.Fatal(err)
		}
		key, err := foreign.host.Command(path, "keygen", "soak").Output()
		if err != nil {
			t.Fatal(err)
		}
		foreign.putKey(key)
		foreign.start()
		if within(4*time.Second, foreign.serves) {
			t.Error("a node with another secret is a member")
		}
		foreign.kill()
		if slices.Contains([]string{"live", "suspect"}, victim.members()[foreign.name].State) {
			t.Error("a node with another secret is listed")
		}
		if err := os.Chmod(filepath.Join(foreign.dir, "key"), 0o644); err != nil {
			t.Fatal(err)
		}
		foreign.start()
		until(t, "a node with a key file for everybody to refuse to start", 10*time.Second, func() bool { return !foreign.runs() })
		if !strings.Contains(foreign.said(), "chmod 600") {
			t.Error("it does not say what to do about the file's mode")
		}
		w.settle()
	})
}

// memory is the resident set of the process, in bytes.
func (n *node) memory(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(n.cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
