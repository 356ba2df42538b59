package faultnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// World is a network of hosts.
type World struct {
	t     testing.TB
	hosts []*Host
	links map[[2]*Host]*link
	done  chan struct{}
	all   sync.WaitGroup

	mu     sync.Mutex
	routes atomic.Pointer[map[netip.Addr]*Host] // replaced as a whole, under mu
}

// worlds counts the networks of this process, which may have several at a time.
var worlds atomic.Uint32

// Host is one machine of the network: a namespace with an address.
type Host struct {
	Name, Region string
	Addr         netip.Addr
	world        *World
	space        string // name of the namespace
	tun          *os.File
}

// device is the name of the TUN device in every namespace, mtu what it carries.
const (
	device = "tun0"
	mtu    = 1500
)

// New makes the network of hosts given as "name:region", or skips the test where that is not possible. The seed decides
// which packets a lossy link loses.
func New(t testing.TB, seed uint64, hosts ...string) *World {
	t.Helper()
	if reason := missing(); reason != "" {
		t.Skip("no network namespaces: " + reason)
	}
	w := &World{t: t, links: make(map[[2]*Host]*link), done: make(chan struct{})}
	w.routes.Store(&map[netip.Addr]*Host{})
	number := worlds.Add(1)
	t.Cleanup(w.end)
	for i, text := range hosts {
		name, region, _ := strings.Cut(text, ":")
		h := &Host{
			Name: name, Region: region, world: w, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}),
			space: fmt.Sprintf("tl%d-%d-%s", os.Getpid()%100000, number, name),
		}
		if err := h.make(); err != nil {
			t.Fatalf("make host %s: %v", name, err)
		}
		w.hosts = append(w.hosts, h)
		w.route(h.Addr, h)
	}
	for i, from := range w.hosts {
		for j, to := range w.hosts {
			if from != to {
				l := newLink(to.tun, seed<<16|uint64(i)<<8|uint64(j))
				w.links[[2]*Host{from, to}] = l
				w.all.Go(func() { l.carry(w.done) })
			}
		}
	}
	for _, h := range w.hosts {
		w.all.Go(h.read)
	}
	return w
}

func missing() string {
	if os.Geteuid() != 0 {
		return "they need root"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "the command ip (package iproute2) is not installed"
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	f.Close()
	probe := fmt.Sprintf("tl%d-probe%d", os.Getpid()%100000, worlds.Add(1))
	if err := ip("netns", "add", probe); err != nil {
		return err.Error()
	}
	_ = ip("netns", "del", probe)
	return ""
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// make makes the namespace, its device and its address.
func (h *Host) make() error {
	_ = ip("netns", "del", h.space) // of a process with our number that was killed
	if err := ip("netns", "add", h.space); err != nil {
		return err
	}
	var err error
	if h.tun, err = openTUN(h.space); err != nil {
		return fmt.Errorf("open a TUN device: %w", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", h.Addr.String() + "/16", "dev", device},
		{"link", "set", device, "mtu", strconv.Itoa(mtu), "txqueuelen", "2000", "up"},
	} {
		if err := ip(append([]string{"-n", h.space}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// openTUN opens the device of a namespace.
func openTUN(space string) (f *os.File, err error) {
	err = inside(space, func() (err error) {
		f, err = openHere(space)
		return err
	})
	return f, err
}

// inside calls f on a thread that has entered the namespace and ends there.
func inside(space string, f func() error) error {
	ch := make(chan error, 1)
	var enter func()
	enter = func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread never ends, and stands for the whole process in /proc: another one must go.
			defer runtime.UnlockOSThread()
			entered := make(chan struct{})
			go func() { defer close(entered); enter() }()
			<-entered
			return
		}
		ns, err := os.Open("/run/netns/" + space)
		if err != nil {
			ch <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			ch <- os.NewSyscallError("setns", err)
			return
		}
		ch <- f()
	}
	go enter()
	return <-ch
}

func openHere(space string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	req, err := unix.NewIfreq(device)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ioctl", err)
	}
	return os.NewFile(uintptr(fd), space), nil
}

// read hands every packet of the host to the link towards its destination.
func (h *Host) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := h.tun.Read(buf)
		switch {
		case errors.Is(err, syscall.EIO): // the device is down
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-h.world.done:
				return
			}
		case err != nil:
			return
		case n < 20 || buf[0]>>4 != 4:
			continue
		}
		to := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(buf[16:20]))))
		if other := (*h.world.routes.Load())[to]; other != nil && other != h {
			h.world.links[[2]*Host{h, other}].take(append([]byte(nil), buf[:n]...), time.Now())
		}
	}
}

// end kills what runs in the namespaces, ends the goroutines and removes the namespaces.
func (w *World) end() {
	for _, h := range w.hosts {
		for _, pid := range h.pids() {
			_ = syscall.Kill(pid, syscall.SIGCONT)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	close(w.done)
	for _, h := range w.hosts {
		h.tun.Close()
	}
	w.all.Wait()
	for _, h := range w.hosts {
		if err := ip("netns", "del", h.space); err != nil {
			w.t.Errorf("remove host %s: %v", h.Name, err)
		}
	}
}

func (h *Host) pids() (pids []int) {
	out, err := exec.Command("ip", "netns", "pids", h.space).Output()
	if err != nil {
		return nil
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Command is a command that will run on the host.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.space, name}, args...)...)
}

// Dial connects from the host; address is an IP address with a port. The connection may be used from anywhere.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = inside(h.space, func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Take gives the host one more address, which whoever had it loses.
func (h *Host) Take(addr netip.Addr) error {
	if other := (*h.world.routes.Load())[addr]; other != nil {
		if err := other.drop(addr); err != nil {
			return err
		}
	}
	if err := ip("-n", h.space, "addr", "add", addr.String()+"/16", "dev", device); err != nil {
		return err
	}
	h.world.route(addr, h)
	return nil
}

// Readdress replaces the host's address; connections of the old one hang.
func (h *Host) Readdress(addr netip.Addr) error {
	if err := h.drop(h.Addr); err != nil {
		return err
	}
	h.Addr = addr
	return h.Take(addr)
}

func (h *Host) drop(addr netip.Addr) error {
	h.world.route(addr, nil)
	return ip("-n", h.space, "addr", "del", addr.String()+"/16", "dev", device)
}

// route sends packets for an address to a host, nil to nobody.
func (w *World) route(addr netip.Addr, to *Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := maps.Clone(*w.routes.Load())
	if next[addr] = to; to == nil {
		delete(next, addr)
	}
	w.routes.Store(&next)
}

// Host returns the host with a name.
func (w *World) Host(name string) *Host {
	w.t.Helper()
	for _, h := range w.hosts {
		if h.Name == name {
			return h
		}
	}
	w.t.Fatalf("no host is called %q", name)
	return nil
}

// Hosts returns all hosts.
func (w *World) Hosts() []*Host { return w.hosts }

// Link changes both directions between two hosts.
func (w *World) Link(a, b *Host, change func(*Quality)) {
	w.OneWay(a, b, change)
	w.OneWay(b, a, change)
}

// OneWay changes the direction from a to b.
func (w *World) OneWay(a, b *Host, change func(*Quality)) {
	if l := w.links[[2]*Host{a, b}]; l != nil {
		l.set(change)
	}
}

// Every changes all directions.
func (w *World) Every(change func(from, to *Host, q *Quality)) {
	for pair, l := range w.links {
		l.set(func(q *Quality) { change(pair[0], pair[1], q) })
	}
}

// Split cuts both directions between the named hosts and all others.
func (w *World) Split(names ...string) {
	inside := make(map[*Host]bool)
	for _, n := range names {
		inside[w.Host(n)] = true
	}
	w.Every(func(from, to *Host, q *Quality) { q.Cut = inside[from] != inside[to] })
}

// Heal ends all cuts; delay, loss and rate stay.
func (w *World) Heal() { w.Every(func(_, _ *Host, q *Quality) { q.Cut = false }) }

// Stats returns the counts of the direction from a to b.
func (w *World) Stats(a, b *Host) Stats {
	l := w.links[[2]*Host{a, b}]
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Hit returns how many packets loss and cuts have taken so far, over all directions.
func (w *World) Hit() (n uint64) {
	for pair := range w.links {
		s := w.Stats(pair[0], pair[1])
		n += s.Lost + s.Cut
	}
	return n
}
