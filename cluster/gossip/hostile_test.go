package gossip_test

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/gossip"
)

// The bytes of memberlist's protocol, as a hostile holder of a key would write them.

// sealed is a packet as memberlist encrypts it.
func sealed(label string, key, plain []byte) []byte {
	return append(append([]byte{244, byte(len(label))}, label...), seal(key, plain, []byte(label))...)
}

func seal(key, plain, associated []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := bytes.Repeat([]byte{9}, 12)
	return gcm.Seal(append([]byte{1}, nonce...), nonce, plain, associated)
}

// sealedStream is what a stream begins with.
func sealedStream(label string, key, plain []byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{10}, uint32(1+12+len(plain)+16))
	b := append([]byte{244, byte(len(label))}, label...)
	return append(append(b, head...), seal(key, plain, append(slices.Clone(head), label...))...)
}

func text(s string) []byte { return append([]byte{0xd9, byte(len(s))}, s...) }

// dead says that a node is dead.
func dead(node, from string, incarnation uint32) []byte {
	b := []byte{5, 0x83}
	b = append(append(b, text("Incarnation")...), 0xce)
	b = binary.BigEndian.AppendUint32(b, incarnation)
	b = append(append(b, text("Node")...), text(node)...)
	return append(append(b, text("From")...), text(from)...)
}

// alive says that a node is there.
func alive(node string, meta []byte) []byte {
	b := []byte{4, 0x86}
	b = append(append(b, text("Incarnation")...), 1)
	b = append(append(b, text("Node")...), text(node)...)
	b = append(append(b, text("Addr")...), 0xc4, 4, 10, 0, 0, 99)
	b = append(append(b, text("Port")...), 0xcd, 0x1f, 0x0a)
	b = append(append(b, text("Meta")...), 0xc4, byte(len(meta)))
	b = append(append(b, meta...), text("Vsn")...)
	return append(b, 0xc4, 6, 1, 5, 5, 0, 0, 0)
}

// send sends packets from a host.
func send(t *testing.T, from *clustertest.Host, to *node, packets ...[]byte) {
	t.Helper()
	c, err := from.ListenPacket(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range packets {
		if _, err := c.WriteTo(p, net.UDPAddrFromAddrPort(to.Addr())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPacketsWithoutTheKeyAreDroppedWithoutAnswerAndWithoutAFlood(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(w.config("a", w.host("a", "10.0.0.1")))
		stranger := w.host("x", "10.0.0.9")
		const rounds = 60
		for range rounds {
			send(t, stranger, a,
				[]byte("hello"), []byte{244}, []byte{244, 0}, []byte{244, 200, 1},
				sealed("north", keyB, []byte{0}), sealed("south", keyA, []byte{0}),
				append([]byte{244, 5}, "northplain"...), bytes.Repeat([]byte{1}, gossip.MaxPacket+1))
			pass(time.Second)
		}
		if n := w.net.Traffic("a", "x").Packets; n != 0 {
			t.Errorf("a answered with %d packets", n)
		}
		s := a.Stats()
		if s.WrongKey != 2*rounds || s.WrongLabel != 2*rounds || s.LongPackets != rounds {
			t.Errorf("counted %+v", s)
		}
		if n := len(a.logs.warnings("")); n > 7*5 {
			t.Errorf("%d lines in a minute:\n%s", n, a.logs)
		}
		if !lists("a")(a.byName()) {
			t.Errorf("lists %+v", a.Members())
		}
	})
}

func TestAnotherKeyOrNameFindsNobodyAndSaysWhy(t *testing.T) {
	for name, change := range map[string]func(*gossip.Config){
		"key":  func(c *gossip.Config) { c.Keys = newKeys(keyB).get },
		"name": func(c *gossip.Config) { c.Cluster = "south" },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := w.start(w.config("a", w.host("a", "10.0.0.1")))
				cfg := w.config("b", w.host("b", "10.0.0.2"), "10.0.0.1:7946")
				change(&cfg)
				b := w.start(cfg)
				pass(time.Minute)
				if !lists("a")(a.byName()) || !lists("b")(b.byName()) {
					t.Errorf("a lists %+v, b %+v", a.Members(), b.Members())
				}
				if s := a.Stats(); s.WrongKey+s.WrongLabel == 0 {
					t.Errorf("counted %+v", s)
				}
				if said := b.logs.warnings("none of the addresses"); len(said) == 0 || !strings.Contains(said[0], "key file") {
					t.Errorf("b says %q", said)
				}
			})
		})
	}
}

func TestALivingNodeRefutesItsDeath(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, names := w.crowd(3)
		for i, lie := range [][]byte{dead("b", "a", 1000), dead("b", "b", 2000)} {
			seen := make(chan gossip.Member, 8)
			go func() {
				for {
					changed := nodes[0].Changed()
					if m := nodes[0].byName()["b"]; m.State != gossip.Live {
						seen <- m
						return
					}
					<-changed
				}
			}()
			send(t, w.host(fmt.Sprint("x", i), fmt.Sprint("10.0.9.", i+1)), nodes[0], sealed("north", keyA, lie))
			if m := <-seen; m.State != gossip.Dead {
				t.Errorf("who was only said to be gone is %s", m.State)
			}
			for _, n := range nodes {
				took := n.until(10*time.Second, "b again", lists(names...))
				t.Logf("%s: refuted within %s", n.cfg.Name, took)
			}
		}
	})
}

func TestNewsOfANodeOfAnotherClusterAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, x := w.start(w.config("a", w.host("a", "10.0.0.1"))), w.host("x", "10.0.0.9")
		foreign := gossip.AppendMeta(nil, gossip.Meta{Incarnation: blue})
		send(t, x, a, sealed("north", keyA, alive("f", foreign)), sealed("north", keyA, alive("a", foreign)))
		pass(time.Second)
		if len(a.Members()) != 1 || a.Stats().Foreign != 2 || a.byName()["a"].Meta != a.cfg.Meta {
			t.Errorf("lists %+v, counted %+v", a.Members(), a.Stats())
		}
		send(t, x, a, sealed("north", keyA, alive("f", gossip.AppendMeta(nil, gossip.Meta{Incarnation: red}))))
		a.until(time.Second, "one of its own", lists("a", "f"))
	})
}

func TestStreamsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, names := w.crowd(2)
		a, x := nodes[0], w.host("x", "10.0.0.9")
		dial := func() net.Conn {
			c, err := x.Dial(t.Context(), a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}

		// 19 MiB are announced by somebody without a key.
		c := dial()
		head := binary.BigEndian.AppendUint32(append([]byte{244, 5}, "north\x0a"...), 19<<20)
		_, _ = c.Write(head)
		sent := 0
		for sent < 19<<20 {
			n, err := c.Write(bytes.Repeat([]byte{1}, 64<<10))
			if sent += n; err != nil {
				break
			}
		}
		if sent > 2*gossip.MaxStream || a.Stats().LongStreams != 1 {
			t.Errorf("%d bytes were taken, %+v", sent, a.Stats())
		}

		// Many that say nothing: each is cut, and those beyond 64 at once.
		silent := make([]net.Conn, 2*gossip.MaxStreams)
		for i := range silent {
			silent[i] = dial()
		}
		for _, c := range silent {
			if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("a silent stream ends with %v", err)
			}
		}
		if n := a.Stats().Evicted; n < gossip.MaxStreams {
			t.Errorf("%d streams were evicted", n)
		}
		if open := a.OpenStreams(); open > 0 {
			t.Errorf("%d streams are open still", open)
		}

		// A bomb of a holder of the key.
		var bomb bytes.Buffer
		packer := lzw.NewWriter(&bomb, lzw.LSB, 8)
		if _, err := packer.Write(make([]byte, 100<<20)); err != nil {
			t.Fatal(err)
		}
		_ = packer.Close()
		plain := append([]byte{9, 0x82}, text("Algo")...)
		plain = append(append(plain, 0), text("Buf")...)
		plain = append(binary.BigEndian.AppendUint32(append(plain, 0xc6), uint32(bomb.Len())), bomb.Bytes()...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c = dial()
		if _, err := c.Write(sealedStream("north", keyA, plain)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, c)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken < 40<<20 || taken > 400<<20 {
			t.Errorf("a bomb of %d bytes took %d MiB", bomb.Len(), taken>>20)
		}
		for _, n := range nodes {
			n.until(time.Second, "all", lists(names...))
		}
	})
}

// Each of these would end the process in memberlist.
func TestSealedNonsenseOfAHolderOfTheKeyEndsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, x := w.start(w.config("a", w.host("a", "10.0.0.1"))), w.host("x", "10.0.0.9")
		old := func(plain ...byte) []byte { // the way that pads
			p := sealed("north", keyA, plain)
			p[2+len("north")] = 0
			return p
		}
		send(t, x, a, old(), old(0xff), sealed("north", keyA, nil), sealed("north", keyA, nil)[:20])

		padded := sealedStream("north", keyA, make([]byte, 40))
		padded[2+len("north")+5] = 0
		for _, b := range [][]byte{sealedStream("north", keyA, nil), padded} {
			for _, step := range []int{len(b), 1} { // at once, and byte for byte
				c, err := x.Dial(t.Context(), a.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				for part := range slices.Chunk(b, step) {
					if _, err := c.Write(part); err != nil {
						break
					}
					pass(time.Millisecond)
				}
				_, _ = io.Copy(io.Discard, c)
			}
		}
		if s := a.Stats(); s.WrongKey != 4+4 {
			t.Errorf("counted %+v", s)
		}
		if !lists("a")(a.byName()) {
			t.Errorf("lists %+v", a.Members())
		}
	})
}

// impostor speaks memberlist as a node does, with metadata of its own.
type impostor struct{ meta []byte }

func (i impostor) NodeMeta(int) []byte                { return i.meta }
func (impostor) NotifyMsg([]byte)                     {}
func (impostor) GetBroadcasts(int, int) [][]byte      { return nil }
func (impostor) LocalState(bool) []byte               { return nil }
func (impostor) MergeRemoteState(buf []byte, is bool) {}

// impersonate joins a node with metadata of its own.
func (w *world) impersonate(name string, host *clustertest.Host, meta []byte, to *node) *memberlist.Memberlist {
	w.t.Helper()
	cfg := w.config(name, host)
	transport, err := gossip.Transport(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Transport, c.SecretKey = name, cfg.Cluster, transport, keyA
	c.Delegate, c.Logger = impostor{meta}, log.New(io.Discard, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = list.Shutdown() })
	if _, err := list.Join([]string{to.Addr().String()}); err != nil {
		w.t.Fatal(err)
	}
	return list
}

func TestNodesWithBadMetadataAreNotListed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, names := w.crowd(2)
		good := gossip.AppendMeta(nil, nodes[0].cfg.Meta)
		for i, meta := range [][]byte{
			nil, []byte("garbage"), bytes.Repeat([]byte{1}, 512), append(slices.Clone(good), make([]byte, gossip.MaxMeta)...),
			good[:len(good)-1], gossip.AppendMeta(nil, gossip.Meta{Region: "a\xff", Incarnation: red}), gossip.AppendMeta(nil, gossip.Meta{NodeAddr: "nowhere", Incarnation: red}),
		} {
			host := w.host(fmt.Sprint("x", i), fmt.Sprint("10.0.9.", i+1))
			before := nodes[0].Stats().BadMeta
			w.impersonate(fmt.Sprint("x", i), host, meta, nodes[0])
			pass(5 * time.Second)
			for _, n := range nodes {
				if !lists(names...)(n.byName()) || len(n.Members()) != len(names) {
					t.Errorf("with metadata %d, %s lists %+v", i, n.cfg.Name, n.Members())
				}
			}
			if nodes[0].Stats().BadMeta == before {
				t.Errorf("metadata %d was not counted", i)
			}
		}
		if n := len(nodes[0].logs.warnings("cannot be read")); n == 0 || n > 5 {
			t.Errorf("%d lines about it", n)
		}
		// An honest one by the same way is.
		w.impersonate("y", w.host("y", "10.0.9.100"), good, nodes[0])
		nodes[1].until(5*time.Second, "y", lists("a", "b", "y"))
	})
}

func TestMessagesOfStrangersAndGarbageAreDropped(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		cfg := w.config("a", w.host("a", "10.0.0.1"))
		cfg.OnLoad = func(from gossip.Member, loads []gossip.Load) { t.Errorf("took %+v of %+v", loads, from) }
		a := w.start(cfg)
		x := w.host("x", "10.0.0.9")
		loads, _ := gossip.AppendLoads([]byte{8}, "nobody", []gossip.Load{{1, 2, 3}})
		own, _ := gossip.AppendLoads([]byte{8}, "a", []gossip.Load{{1, 2, 3}})
		send(t, x, a, sealed("north", keyA, loads), sealed("north", keyA, own),
			sealed("north", keyA, []byte{8}), sealed("north", keyA, []byte{8, 1, 9, 1, 'a'}))
		pass(time.Second)
		if s := a.Stats(); s.Unknown != 2 || s.BadMessage != 2 || s.LoadsTaken != 0 {
			t.Errorf("counted %+v", s)
		}
	})
}

func TestKeysRotateUnderTrafficWithoutLoss(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		names, addrs := crowd(3)
		rings := make([]*keys, len(names))
		nodes := make([]*node, len(names))
		for i, name := range names {
			rings[i] = newKeys(keyA)
			cfg := w.config(name, w.host(name, fmt.Sprintf("10.0.0.%d", i+1)), addrs...)
			cfg.Keys, cfg.KeysChanged = rings[i].get, rings[i].watch
			cfg.Loads = func() []gossip.Load { return []gossip.Load{{1, 2, 3}} }
			cfg.Timing = new(gossip.OneRegion.Timing())
			cfg.Timing.Loads, cfg.Timing.PushPull = 10*time.Millisecond, 100*time.Millisecond
			nodes[i] = w.start(cfg)
		}
		for _, n := range nodes {
			n.until(15*time.Second, "all", lists(names...))
		}
		for _, step := range []func(*keys){
			func(k *keys) { k.set(keyA, keyB) },
			func(k *keys) { k.set(keyB, keyA) },
			func(k *keys) { k.set(keyB) },
		} {
			for _, ring := range rings {
				before := nodes[1].Stats().LoadsTaken
				step(ring)
				pass(2 * time.Second) // one after the other, with traffic between them
				if after := nodes[1].Stats().LoadsTaken; after < before+300 {
					t.Errorf("%d loads came in 2 s", after-before)
				}
			}
		}
		for _, n := range nodes {
			if s := n.Stats(); s.WrongKey > 0 || !lists(names...)(n.byName()) {
				t.Errorf("%s counted %+v and lists %+v", n.cfg.Name, s, n.Members())
			}
			if keys := n.Keys(); len(keys) != 1 || !bytes.Equal(keys[0], keyB) {
				t.Errorf("%s has %d keys", n.cfg.Name, len(keys))
			}
		}
		rings[0].set(keyB[:5]) // not a key: what was stays
		pass(5 * time.Second)
		if !lists(names...)(nodes[1].byName()) || len(nodes[0].logs.warnings("keys it had")) != 1 {
			t.Errorf("after a bad key %+v\n%s", nodes[1].Members(), nodes[0].logs)
		}
		// Who was away for all of it is a stranger now.
		late := w.start(w.config("d", w.host("d", "10.0.0.4"), addrs...))
		pass(30 * time.Second)
		if !lists("d")(late.byName()) {
			t.Errorf("with the old key: %+v", late.Members())
		}
	})
}
