package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/trust"
)

// A load balancer that asks a node which waits for its cluster gets an answer, by plain HTTP and by TLS.
func TestJoiningNodeAnswersHealthChecksOnTheClientsPort(t *testing.T) {
	text, err := trust.Generate("shop")
	if err != nil {
		t.Fatal(err)
	}
	s := loopbackSettings()
	s.TokenTTL, s.LoginRetention, s.TLS = span(time.Hour), span(time.Hour), "both"
	s.KeyFile, s.Join = write(t, "cluster.key", string(text), 0o600), []string{"127.0.0.1:1"}
	th := newTheatre("")
	n, err := assemble(t.Context(), s, nil, s.logger(&th.world), nil)
	if err != nil {
		t.Fatal(err)
	}
	n.tls = selfSigned(t)
	ctx, cancel := context.WithCancel(t.Context())
	run, started := newStages(), make(chan error, 1)
	go func() { started <- n.start(ctx, run) }()
	defer func() {
		cancel()
		<-started
		if err := run.stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		n.bound.close()
		_ = n.logins.Close()
	}()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 5 * time.Second}
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable, "/v2/rooms": http.StatusServiceUnavailable} {
		for _, scheme := range []string{"http://", "https://"} {
			code, body := fetch(t, client, scheme+n.bound["client"][0].Addr().String()+path)
			if code != want || code != http.StatusOK && !strings.Contains(body, `"not_ready"`) {
				t.Errorf("%s %s: %d %s", scheme, path, code, body)
			}
		}
	}
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	writeCertificate(t, certFile, keyFile)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// The listener is as it was, also when somebody is just being waited for.
func TestWaitingRoomGivesItsListenersBack(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	th := newTheatre("")
	s := loopbackSettings()
	room := openWaitingRoom(t.Context(), &node{settings: s, log: s.logger(&th.world)}, []net.Listener{ln})
	silent := halfOpen(t, ln.Addr().String())
	defer func() { _ = silent.Close() }()
	room.leave()
	room.leave()
	next := halfOpen(t, ln.Addr().String())
	defer func() { _ = next.Close() }()
	for {
		nc, err := ln.Accept() // the silent one, if it was not taken yet
		if err != nil {
			t.Fatal(err)
		}
		from := nc.RemoteAddr().String()
		_ = nc.Close()
		if from == next.LocalAddr().String() {
			return
		}
	}
}
