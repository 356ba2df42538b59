package node

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
	"github.com/trunkline-edge/trunkline/wire"
)

// Ten thousand connections that say nothing, or stop in the middle of a word, on a port: who is there is served as before,
// and so are those who come meanwhile, though they may have to try again while the port has as many half-open connections
// as it may. They cost little memory and are closed in time.
func TestHalfOpenConnectionsStopNobody(t *testing.T) {
	t.Parallel()
	const conns = 10_000
	for _, port := range []struct {
		name, port, gauge string
		stays             time.Duration // how long one that says nothing is kept at least
		first             []string
	}{
		{"clients", ":8080", "trunkline_client_half_open", handshake, []string{"", "GET /connect/", "GET / HTTP/1.1\r\nHost: x\r\n", "\x16\x03\x01"}},
		{"tunnels", ":7147", "trunkline_edge_tunnel_connections", handshake / 2, []string{"", "{", `{"appSecret":"`, "TRK1", "\x16\x03\x01"}},
	} {
		t.Run(port.name, func(t *testing.T) {
			c := startDev(t)
			a := newApp("held")
			a.startBackend(t, c, backendRole{Kind: legacy, Store: "store-1"})
			state := a.create(t, c, 1)[0]
			w := bear(t, a.join(t, c, legacy, "witness", state))
			before, _ := c.memory(t)
			began := time.Now()
			holders := startHolders(t, c.host+port.port, conns, port.first...)
			most := c.metric(t, port.gauge)
			took := time.Since(began)

			a.startBackend(t, c, backendRole{Kind: native, Store: "store-2"})
			came := time.Now()
			tries := a.comeIn(t, c, state)
			waited := time.Since(came)
			still := c.metric(t, port.gauge)
			_, high := c.memory(t)
			t.Logf("%d half-open connections in %v: the node held %v of them, and %v when %d newcomers had been served, after %v and %d tries; %d KiB each",
				conns, took.Round(time.Millisecond), most, still, newcomers, waited.Round(time.Millisecond), tries, (high-before)/conns>>10)
			if waited > handshake+slack {
				t.Errorf("newcomers were served after %v only", waited)
			}
			// A machine that takes its time opening them finds the first closed before the last is open.
			if expected := conns * min(1, port.stays.Seconds()/took.Seconds()); most < expected/4 {
				t.Errorf("the node held %v half-open connections, want about %.0f", most, expected)
			}
			if high-before > roomy(256*mebi) {
				t.Errorf("half-open connections cost %d MiB", (high-before)/mebi)
			}
			w.unharmed(t, "while connections are half open")
			until(t, "half-open connections to be closed", func() bool { return c.metric(t, port.gauge) <= 2 })
			t.Logf("all were closed by the node %v after the first was opened", time.Since(began).Round(time.Millisecond))
			for _, h := range holders {
				h.kill()
			}
		})
	}
}

const (
	newcomers = 4
	handshake = 10 * time.Second // what a client may take to say what it wants
)

// comeIn joins players of both kinds, each as often as it takes, and returns how many tries it took in all.
func (a app) comeIn(t *testing.T, c *coordinator, state string) (tries int) {
	t.Helper()
	for i := range newcomers {
		user := userName(i)
		token := a.token(t, c, user)
		until(t, user+" to be served", func() bool {
			tries++
			p, err := a.tryJoin(t, c, kinds[i%2], user, state, token)
			if err != nil {
				return false
			}
			_, err = p.ask(within(t), "served?")
			return err == nil
		})
	}
	return tries
}

// A length field of 4 GiB closes the connection that wrote it, on either port, before or after registration; no memory is
// taken for it and nobody else notices.
func TestLengthOf4GiBTakesNoMemory(t *testing.T) {
	t.Parallel()
	c := startDev(t)
	a := newApp("length")
	a.startBackend(t, c, backendRole{Kind: legacy, Store: "store-1"})
	state := a.create(t, c, 1)[0]
	id, err := wire.ParseStateID(state)
	if err != nil {
		t.Fatal(err)
	}
	w := bear(t, a.join(t, c, legacy, "witness", state))
	registration, err := json.Marshal(map[string]string{"appSecret": a.secret, "storeId": "store-2"})
	if err != nil {
		t.Fatal(err)
	}
	hello := string(wire.AppendHello(nil, wire.OurHello()))
	const whole = "\xff\xff\xff\xff" // 4 GiB less one as 32 bits
	handshake := string(legacyclient.Handshake(a.token(t, c, "user-1"), a.id, uint64(id)))
	before, _ := c.memory(t)
	const rounds = 50
	attacks := []struct{ name, addr, bytes string }{
		{"tunnel, first frame", c.tunnel(), "\x00" + whole[1:] + "\x00"},
		{"tunnel, legacy frame", c.tunnel(), string(registration) + whole + "\x00"},
		{"tunnel, native frame", c.tunnel(), hello + whole + "\x01\x00"},
		{"tunnel, no kind at all", c.tunnel(), whole},
		{"tcp, token", c.tcp(), "\x8f\xff\xff\xff\x7f" + "x"}, // 4 GiB less one in groups of seven bits
		{"tcp, legacy frame", c.tcp(), handshake + whole + "\x00"},
		{"tcp, native frame", c.tcp(), hello + whole + "\x01\x00"},
	}
	var slowest time.Duration
	for i := range rounds * len(attacks) {
		attack := attacks[i%len(attacks)]
		began := time.Now()
		if !closes(t, attack.addr, []byte(attack.bytes)) {
			t.Errorf("%s: the connection is still open", attack.name)
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("%d connections with a length of 4 GiB in %d places were closed, each within %v", rounds*len(attacks), len(attacks), slowest.Round(time.Millisecond))
	_, most := c.memory(t)
	t.Logf("resident memory %d MiB before, %d MiB at most", before/mebi, most/mebi)
	if most-before > roomy(32*mebi) {
		t.Errorf("length fields cost %d MiB", (most-before)/mebi)
	}
	w.unharmed(t, "while lengths are wrong")
}

// closes writes to a port and reports whether the node closes the connection.
func closes(t *testing.T, addr string, data []byte) bool {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A reset may come before the end of what we write.
	if _, err := conn.Write(data); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	_, err = io.Copy(io.Discard, conn)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// Registrations with another app's id, or of an app that is not listed, are closed; a sender that retries at once, for ever,
// fills no log.
func TestRefusedRegistrationsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	const tries = 1000
	c := startDev(t, "--apps", "listed")
	listed, stranger := newApp("listed"), newApp("stranger")
	for _, wrong := range []struct {
		reason       string
		registration map[string]string
	}{
		{"app_mismatch", map[string]string{"appId": listed.id, "appSecret": stranger.secret, "storeId": "store-1"}},
		{"app_not_listed", map[string]string{"appSecret": stranger.secret, "storeId": "store-1"}},
	} {
		first, err := json.Marshal(wrong.registration)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range tries {
			if !closes(t, c.tunnel(), first) {
				t.Fatalf("%s: the connection is still open", wrong.reason)
			}
		}
		took := time.Since(began)
		lines := len(regexp.MustCompile(`(?m)^.*reason=`+wrong.reason+`.*$`).FindAllString(c.said(), -1))
		counted := c.metric(t, `trunkline_edge_tunnels_refused_total{reason="`+wrong.reason+`"}`)
		t.Logf("%s: %d tries in %v, %v counted, %d log lines", wrong.reason, tries, took.Round(time.Millisecond), counted, lines)
		if counted != tries {
			t.Errorf("%s: %v refusals were counted, want %d", wrong.reason, counted, tries)
		}
		if most := 1 + int(took/(10*time.Second)); lines < 1 || lines > most {
			t.Errorf("%s: %d log lines in %v, want 1 to %d", wrong.reason, lines, took, most)
		}
		for _, a := range []app{listed, stranger} {
			if n := len(c.instances(t, a)); n != 0 {
				t.Errorf("%s: %d instances of an app that nobody listed", wrong.reason, n)
			}
		}
	}
}

// The operators' port answers to names of this machine only: a page in a browser whose name resolves to 127.0.0.1 learns
// nothing.
func TestOperatorsPortRefusesForeignNames(t *testing.T) {
	t.Parallel()
	c := startDev(t)
	refused := 0
	for _, path := range []string{"/metrics", "/readyz?verbose", "/v1/status", "/v1/apps", "/v1/instances", "/v1/states"} {
		for host, want := range map[string]int{
			"":                   http.StatusOK, // its address
			"localhost:7180":     http.StatusOK,
			"evil.example":       http.StatusForbidden,
			"evil.example:7180":  http.StatusForbidden,
			"127.0.0.1.evil.com": http.StatusForbidden,
			"10.0.0.1":           http.StatusForbidden,
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.host+":7180"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != want {
				t.Errorf("GET %s with Host %q: status %d (%v), want %d", path, host, res.StatusCode, err, want)
			}
			if want == http.StatusForbidden {
				refused++
				if strings.Contains(string(body), "trunkline_") {
					t.Errorf("GET %s with Host %q shows figures", path, host)
				}
			}
		}
	}
	t.Logf("%d requests with foreign names were refused", refused)
}
