package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth/logins"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/sdk"
	"github.com/trunkline-edge/trunkline/wire"
)

// actor is a node that runs in this process through the command line.
type actor struct {
	*theatre
	ports  portsFile
	status chan int
}

// act starts a node with free ports on 127.0.0.1 and waits until it is up.
func act(t *testing.T, args ...string) *actor {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ports.json")
	a := &actor{theatre: newTheatre(""), status: make(chan int, 1)}
	args = append([]string{
		args[0],
		"--bind-addr", "127.0.0.1", "--client-addr", ":0", "--tunnel-addr", ":0", "--tcp-addr", ":0",
		"--gossip-addr", ":0", "--node-addr", ":0", "--admin-addr", "127.0.0.1:0", "--ports-file", file,
	}, args[1:]...)
	if !slices.Contains(args, "--drain") {
		args = append(args, "--drain", "200ms")
	}
	go func() { a.status <- run(context.Background(), args, &a.world) }()
	a.err.await(t, "the node is up")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &a.ports); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if a.status != nil {
			a.stop(t)
		}
	})
	return a
}

// stop sends a signal and answers the exit status.
func (a *actor) stop(t *testing.T) int {
	t.Helper()
	a.signal <- syscall.SIGTERM
	select {
	case status := <-a.status:
		a.status = nil
		return status
	case <-time.After(20 * time.Second):
		t.Fatalf("the node does not stop:\n%s", a.err.String())
		return -1
	}
}

func (a *actor) admin() string { return "http://" + a.ports.Admin[0] }

// verb runs another command against the node and answers what it prints.
func (a *actor) verb(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	th := newTheatre(stdin, "TRUNKLINE_ADMIN", a.admin())
	if status := play(t, th, args...); status != exitDone {
		t.Fatalf("%v: status %d: %s", args, status, th.err.String())
	}
	return th.out.String()
}

func fetch(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// echo attaches a native backend of the dev app that answers every message.
func echo(t *testing.T, a *actor) {
	t.Helper()
	attached := make(chan struct{}, 8)
	b, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: []string{a.ports.Tunnel[0]}, Secret: devSecret, StoreID: "store-1", Plain: true,
		OnAttached: func(string) { attached <- struct{}{} },
	}, sdk.Handlers{
		Message: func(_ *sdk.State, from *sdk.Session, data []byte) { _ = from.Send(append([]byte("echo "), data...)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-attached:
	case <-time.After(20 * time.Second):
		t.Fatalf("the backend does not attach:\n%s", a.err.String())
	}
}

func TestDevIsUpInUnderASecondAndPrintsWhatToPaste(t *testing.T) {
	begun := time.Now()
	a := act(t, "dev")
	if took := time.Since(begun); took > time.Second {
		t.Errorf("up after %v", took)
	}
	app := wire.AppIDOf(devSecret).String()
	for _, want := range []string{
		a.ports.Client[0], a.ports.Tunnel[0], a.ports.TCP[0], a.ports.Admin[0], app, devSecret, "NODE_EXTRA_CA_CERTS=" + a.ports.CAFile,
		"curl", "new WebSocket(", "trunkline token --admin " + a.admin(),
	} {
		if !strings.Contains(a.out.String(), want) {
			t.Errorf("the greeting lacks %s:\n%s", want, a.out.String())
		}
	}
	if status := a.stop(t); status != exitDone {
		t.Errorf("status %d after SIGTERM: %s", status, a.err.String())
	}
	if _, err := os.Stat(a.ports.CAFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the throw-away CA is left behind: %v", err)
	}
}

func TestDevTakesPlainAndTLSOnOnePort(t *testing.T) {
	a := act(t, "dev")
	if code, _ := fetch(t, http.DefaultClient, "http://"+a.ports.Client[0]+"/livez"); code != http.StatusOK {
		t.Errorf("plain: %d", code)
	}
	text, err := os.ReadFile(a.ports.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	defer transport.CloseIdleConnections()
	if code, _ := fetch(t, &http.Client{Transport: transport}, "https://"+a.ports.Client[0]+"/readyz"); code != http.StatusOK {
		t.Errorf("TLS: %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConnectTalksToABackend(t *testing.T) {
	a := act(t, "dev")
	echo(t, a)
	got := a.verb(t, "hello\nworld\n", "connect", "abc", "--wait", "2s")
	if got != "echo hello\necho world\n" {
		t.Errorf("got %q", got)
	}
	var where admin.WhereList
	if err := json.Unmarshal([]byte(a.verb(t, "", "where", "ABC", "--json")), &where); err != nil {
		t.Fatal(err)
	}
	if len(where.Where) != 1 || where.Where[0].Status != "firm" || where.Where[0].Owner == nil || where.Where[0].Owner.StoreID != "store-1" || where.Where[0].Owner.NodeID != "dev" || where.Where[0].NodeID != "dev" || !where.Where[0].Owner.Connected {
		t.Errorf("where: %+v", where)
	}
	var st admin.Status
	if err := json.Unmarshal([]byte(a.verb(t, "", "status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	if st.Instances != 1 || st.States != 1 || st.Apps != 1 || !st.Ready {
		t.Errorf("status: %+v", st)
	}
	if list := a.verb(t, "", "states", "--app", "dev"); !strings.Contains(list, "abc") {
		t.Errorf("states: %s", list)
	}
	if list := a.verb(t, "", "instances"); !strings.Contains(list, "store-1") || !strings.Contains(list, "native") {
		t.Errorf("instances: %s", list)
	}
	th := newTheatre("x\n", "TRUNKLINE_ADMIN", a.admin(), "TRUNKLINE_TOKEN", "canary.not.token")
	if status := play(t, th, "connect", "abc"); status != exitFailed || !strings.Contains(th.err.String(), "4002") || strings.Contains(th.err.String(), "canary") {
		t.Errorf("a bad token: status %d, %s", status, th.err.String())
	}
}

// Every metric of a node that has worked has a sentence, and none names a state
// or a user.
func TestMetricsOfAWorkingNode(t *testing.T) {
	a := act(t, "dev")
	echo(t, a)
	a.verb(t, "hello\n", "connect", "s0mestate", "--wait", "500ms", "--user", "s0meuser")
	code, text := fetch(t, http.DefaultClient, a.admin()+"/metrics")
	http.DefaultClient.CloseIdleConnections()
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	names := regexp.MustCompile(`(?m)^# TYPE trunkline_(\S+)`).FindAllStringSubmatch(text, -1)
	if len(names) < 40 {
		t.Errorf("%d metrics only", len(names))
	}
	for _, m := range names {
		if m[1] != "build_info" && !admin.HasHelp(m[1]) {
			t.Errorf("%s has no sentence in admin/help.go", m[1])
		}
	}
	for _, never := range []string{"s0mestate", "s0meuser", devSecret} {
		if strings.Contains(text, never) {
			t.Errorf("the metrics name %s", never)
		}
	}
	for _, want := range []string{`trunkline_metrics_refused{reason="labels"} 0`, `trunkline_metrics_refused{reason="repeated"} 0`, "trunkline_table_states 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestListedAppsAreMadeRotatedAndDeleted(t *testing.T) {
	dir := t.TempDir()
	args := []string{"serve", "--tls", "off", "--data-dir", dir, "--node-id", "n1"}
	a := act(t, args...)
	var made admin.CreatedApp
	if err := json.Unmarshal([]byte(a.verb(t, "", "apps", "create", "--max-states", "7", "--json")), &made); err != nil {
		t.Fatal(err)
	}
	if made.Secret == "" || wire.AppIDOf(made.Secret).String() != made.ID || made.Settings.MaxStates != 7 {
		t.Fatalf("created %+v", made)
	}
	token := strings.TrimSpace(a.verb(t, "", "token", "--app", made.ID[:8]))
	th := newTheatre("", "TRUNKLINE_ADMIN", a.admin())
	if status := play(t, th, "token", "--app", wire.AppIDOf("nobody's").String()); status != exitFailed || !strings.Contains(th.err.String(), "apps create") {
		t.Errorf("a token of an app that is not listed: %d %s", status, th.err.String())
	}
	var added admin.AppSecret
	if err := json.Unmarshal([]byte(a.verb(t, "", "apps", "secret", "add", made.ID, "--json")), &added); err != nil {
		t.Fatal(err)
	}
	a.verb(t, "", "apps", "secret", "remove", made.ID, made.Secrets[0])
	th = newTheatre("", "TRUNKLINE_ADMIN", a.admin())
	if status := play(t, th, "apps", "secret", "remove", made.ID, added.Fingerprint); status != exitFailed || !strings.Contains(th.err.String(), "last secret") {
		t.Errorf("removing the last secret: %d %s", status, th.err.String())
	}
	a.verb(t, "", "apps", "set", made.ID, "--max-message", "64KiB", "--greeting")
	if status := a.stop(t); status != exitDone {
		t.Fatalf("status %d: %s", status, a.err.String())
	}

	// Everything survives a restart, the token's key included.
	b := act(t, args...)
	var list admin.AppList
	if err := json.Unmarshal([]byte(b.verb(t, "", "apps", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Apps) != 1 || list.Apps[0].Settings.MaxMessage != 64<<10 || !list.Apps[0].Settings.Greeting || len(list.Apps[0].Secrets) != 1 || list.Apps[0].Secrets[0] != added.Fingerprint {
		t.Errorf("after a restart: %+v", list)
	}
	th = newTheatre("", "TRUNKLINE_ADMIN", b.admin(), "TRUNKLINE_TOKEN", token)
	if status := play(t, th, "connect", "abc", "--app", made.ID, "--timeout", "400ms"); status != exitFailed || strings.Contains(th.err.String(), "4002") || !strings.Contains(th.err.String(), "trunkline instances") {
		t.Errorf("a token of before the restart, and no backend: %d %s", status, th.err.String())
	}
	b.verb(t, "", "apps", "delete", made.ID, "--yes")
	if got := b.verb(t, "", "apps", "list", "--json"); strings.Contains(got, made.ID) {
		t.Errorf("after deleting: %s", got)
	}
	for _, secret := range []string{made.Secret, added.Secret, token} {
		if log := a.err.String() + b.err.String(); strings.Contains(log, secret) {
			t.Errorf("a secret is in the log:\n%s", log)
		}
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	a := act(t, "dev", "--drain", "10m")
	echo(t, a)
	// Clients are told to leave over five minutes: some of these stay long enough.
	var clients sync.WaitGroup
	t.Cleanup(clients.Wait)
	for range 8 {
		typing, typed := io.Pipe()
		th := newTheatre("", "TRUNKLINE_ADMIN", a.admin())
		th.stdin = typing
		clients.Go(func() { run(context.Background(), []string{"connect", "abc"}, &th.world) })
		t.Cleanup(func() {
			th.signal <- syscall.SIGINT
			_ = typed.Close()
		})
		th.err.await(t, "connected")
	}
	a.signal <- syscall.SIGTERM
	a.err.await(t, "the node is stopping")
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for a.status != nil {
		select {
		case status := <-a.status:
			a.status = nil
			if status != exitFailed || !strings.Contains(a.err.String(), "second signal: not every client") {
				t.Errorf("status %d: %s", status, a.err.String())
			}
		case <-again.C:
			select {
			case a.signal <- syscall.SIGTERM:
			default:
			}
		}
	}
}

func halfOpen(t *testing.T, address string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// A life that ends before the node has joined lets go of its files: the process goes on with another one.
func TestLifeThatNeverJoinedLetsGoOfItsFiles(t *testing.T) {
	dir := t.TempDir()
	text, err := trust.Generate("alone")
	if err != nil {
		t.Fatal(err)
	}
	key := write(t, "key", string(text), 0o600)
	a := &actor{theatre: newTheatre(""), status: make(chan int, 1)}
	args := []string{
		"serve", "--tls", "off", "--data-dir", filepath.Join(dir, "data"), "--key-file", key, "--join", "127.0.0.1:1", "--bind-addr", "127.0.0.1",
		"--client-addr", ":0", "--tunnel-addr", ":0", "--tcp-addr", ":0", "--gossip-addr", ":0", "--node-addr", ":0", "--admin-addr", "127.0.0.1:0",
	}
	go func() { a.status <- run(context.Background(), args, &a.world) }()
	a.err.await(t, "goes on trying")
	a.stop(t)
	store, err := logins.Open(filepath.Join(dir, "data", "logins.db"), logins.Config{Retention: time.Hour, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
}

func TestDrainingNodeIsNotReady(t *testing.T) {
	s := loopbackSettings()
	s.Apps, s.TokenTTL, s.LoginRetention = "open", span(time.Hour), span(time.Hour)
	s.InstanceWait, s.Hold, s.Grace, s.LegacyGrace, s.TunnelStall = span(time.Second), span(time.Second), span(time.Second), span(time.Second), span(time.Second)
	s.PlainFrom = []string{"private"}
	th := newTheatre("")
	n, err := assemble(t.Context(), s, nil, s.logger(&th.world), nil)
	if err != nil {
		t.Fatal(err)
	}
	run := newStages()
	defer func() {
		if err := run.stop(t.Context()); err != nil {
			t.Error(err)
		}
		n.bound.close()
	}()
	if err := n.start(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	for again := time.NewTicker(10 * time.Millisecond); n.ready() != nil; {
		<-again.C // for its lease
	}
	for _, draining := range []bool{false, true} {
		n.draining.Store(draining)
		r := httptest.NewRequest("GET", "/readyz?verbose", nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		n.admin.ServeHTTP(w, r)
		if want := map[bool]int{false: 200, true: 503}[draining]; w.Code != want {
			t.Errorf("operators' port, draining %v: %d %s", draining, w.Code, w.Body)
		}
		w = httptest.NewRecorder()
		n.endpoints.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if want := map[bool]int{false: 200, true: 503}[draining]; w.Code != want {
			t.Errorf("clients' port, draining %v: %d %s", draining, w.Code, w.Body)
		}
	}
}

func TestServeReadsChangedCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	th := newTheatre("")
	if status := play(t, th, "serve", "--tls-cert", cert, "--tls-key", key, "--data-dir", dir); status != exitFailed || !strings.Contains(th.err.String(), "chmod 600") {
		t.Errorf("a key that others may read: %d %s", status, th.err.String())
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	a := act(t, "serve", "--tls-cert", cert, "--tls-key", key, "--data-dir", filepath.Join(dir, "data"), "--node-id", "n1")
	first := seenCertificate(t, a.ports.Client[0])
	writeCertificate(t, cert, key)
	a.err.await(t, "the certificate was replaced")
	if second := seenCertificate(t, a.ports.Client[0]); string(first) == string(second) {
		t.Error("the old certificate is still served")
	}
	if conn := halfOpen(t, a.ports.Client[0]); true {
		_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		if got, _ := io.ReadAll(io.LimitReader(conn, 12)); strings.HasPrefix(string(got), "HTTP/1.1 200") {
			t.Error("serve answers without TLS")
		}
		_ = conn.Close()
	}
}

func seenCertificate(t *testing.T, address string) []byte {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
}

// TestLifeThatNeverJoinedLeavesNothingOpen: the next one in the same process has the same data directory.
func TestLifeThatNeverJoinedLeavesNothingOpen(t *testing.T) {
	text, err := trust.Generate("shop")
	if err != nil {
		t.Fatal(err)
	}
	dir, key := t.TempDir(), write(t, "cluster.key", string(text), 0o600)
	args := []string{
		"serve", "--tls", "off", "--data-dir", dir, "--key-file", key, "--node-id", "n1", "--bind-addr", "127.0.0.1",
		"--client-addr", ":0", "--tunnel-addr", ":0", "--tcp-addr", ":0", "--gossip-addr", ":0", "--node-addr", ":0", "--admin-addr", "127.0.0.1:0",
	}
	th, ended := newTheatre(""), make(chan int, 1)
	go func() { ended <- run(t.Context(), append(args, "--join", "127.0.0.1:1"), &th.world) }()
	th.err.await(t, "it goes on trying")
	th.signal <- syscall.SIGTERM
	<-ended
	act(t, "serve", "--tls", "off", "--data-dir", dir, "--key-file", key, "--node-id", "n1")
}
