package main

import (
	"strings"
	"testing"
)

// A client that knows several nodes needs any one of them, and a token from any.
func TestConnectGoesOnAtAnotherNode(t *testing.T) {
	a := act(t, "dev")
	echo(t, a)
	th := newTheatre("hello\n")
	status := play(t, th, "connect", "abc", "--wait", "2s", "--admin", "127.0.0.1:1,"+a.ports.Admin[0], "--url", "ws://127.0.0.1:1,ws://"+a.ports.Client[0])
	if status != exitDone || th.out.String() != "echo hello\n" {
		t.Errorf("status %d, %q: %s", status, th.out.String(), th.err.String())
	}
	if said := th.err.String(); strings.Count(said, "connected to ") != 1 || strings.Contains(said, "msg=connected") {
		t.Errorf("the connection is told of not once: %s", said)
	}
	if got := a.verb(t, "hello\n", "connect", "abc", "--wait", "2s", "--admin", "127.0.0.1:1,"+a.ports.Admin[0]); got != "echo hello\n" {
		t.Errorf("where one node says where clients connect: %q", got)
	}
}

func TestConnectRefusesWhatIsNoAddress(t *testing.T) {
	for _, text := range []string{"nonsense", "http://127.0.0.1:80", "ws://", "ws://127.0.0.1:0", "ws://127.0.0.1:99999", "ws://127.0.0.1:", "tcp://127.0.0.1", "wss://https://a", "ws://a:x", "ws://a?b"} {
		th := newTheatre("")
		if status := play(t, th, "connect", "abc", "--url", text); status != exitMisuse || !strings.Contains(th.err.String(), "--url") {
			t.Errorf("%s: status %d, %s", text, status, th.err.String())
		}
	}
	for _, text := range []string{"ws://edge.example", "wss://[::1]:443/", "tcp://10.0.0.1:7148", "tls://edge.example:7148"} {
		if err := checkClientURL(text); err != nil {
			t.Error(err)
		}
	}
}

func TestConnectSaysThatThereIsNoDevApp(t *testing.T) {
	a := act(t, "serve", "--tls", "off", "--data-dir", t.TempDir())
	th := newTheatre("", "TRUNKLINE_ADMIN", a.admin())
	if status := play(t, th, "connect", "abc"); status != exitFailed || !strings.Contains(th.err.String(), "no dev app here") || !strings.Contains(th.err.String(), "--app") {
		t.Errorf("status %d: %s", status, th.err.String())
	}
}

// Nobody is asked for what cannot be.
func TestWhatIsNoStateIsMisuse(t *testing.T) {
	for _, verb := range []string{"where", "connect"} {
		th := newTheatre("", "TRUNKLINE_ADMIN", "127.0.0.1:1")
		if status := play(t, th, verb, "NO_such!"); status != exitMisuse || !strings.Contains(th.err.String(), "base 36") {
			t.Errorf("%s: status %d: %s", verb, status, th.err.String())
		}
	}
}
