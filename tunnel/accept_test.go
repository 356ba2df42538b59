package tunnel

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

const registration = `{"appSecret":"s3cr3t","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"}}}`

// acceptBytes registers with what a peer wrote, in pieces of the given size, and
// then half-closed.
func acceptBytes(t *testing.T, said []byte, piece int, cfg Config) (*Registration, Tunnel, error) {
	t.Helper()
	ours, theirs := sockets(t)
	go func() {
		for len(said) > 0 {
			n := min(piece, len(said))
			if _, err := theirs.Write(said[:n]); err != nil {
				return
			}
			said = said[n:]
		}
		theirs.CloseWrite()
	}()
	return Accept(context.Background(), wrap(ours, cfg), cfg)
}

func TestLegacyRegistrations(t *testing.T) {
	early := hathora.AppendSendMessage(nil, 7, "alice", []byte(`{"not":"a registration"}`))
	early = hathora.AppendPing(hathora.AppendCloseConnection(early, 7, "bob"))
	app := strings.Repeat("4e", 32)
	for _, c := range []struct {
		name, said string
		check      func(r *Registration) bool
	}{
		{"0.5.1", registration, func(r *Registration) bool {
			return r.StoreID == "store-1" && r.Named && string(r.Login) == `{"anonymous":{"separator":"-"}}`
		}},
		{"frames before", string(early) + registration, func(r *Registration) bool { return r.StoreID == "store-1" }},
		{"region, no store", `{"appSecret":"s3cr3t","storeRegion":"0.123"}`, func(r *Registration) bool {
			return !r.Named && strings.HasPrefix(r.StoreID, "conn-") && r.Region == "0.123" && r.Login == nil
		}},
		{"0.4.1", `{"appId":"` + app + `","appSecret":"s3cr3t","storeId":"s"}`, func(r *Registration) bool {
			return r.AppID.String() == app
		}},
		{"braces in strings", `{"appSecret":"s3cr3t","storeId":"}{\"","x":{"y":"}"}}`, func(r *Registration) bool {
			return r.StoreID == `}{"`
		}},
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", c.name, piece), func(t *testing.T) {
				cfg := testConfig()
				said := append([]byte(c.said), hathora.AppendSendMessage(nil, 1, "u", []byte("after"))...)
				reg, tun, err := acceptBytes(t, said, piece, cfg)
				if err != nil {
					t.Fatal(err)
				}
				if reg.Kind != Legacy || tun.Kind() != Legacy || reg.Secret != "s3cr3t" || !c.check(reg) {
					t.Fatalf("registration %+v", reg)
				}
				sink := newNotes()
				if err := tun.Run(context.Background(), sink); ReasonOf(err) != ReasonPeer {
					t.Fatal(err)
				}
				if got := sink.all(); len(got) != 1 || got[0] != "user 1 0 u after" {
					t.Fatalf("after the registration came %q", got)
				}
			})
		}
	}
}

func TestRefusedRegistrations(t *testing.T) {
	register := func(change func(b *wire.RegisterBody)) string {
		b := wire.RegisterBody{Credit: window, Secret: []byte("s"), StoreID: []byte("i")}
		change(&b)
		hello := wire.AppendHello(nil, wire.OurHello())
		return string(wire.AppendFrame(hello, &wire.Frame{Type: wire.Register, Payload: b.Append(nil)}))
	}
	hello := string(wire.AppendHello(nil, wire.OurHello()))
	for _, c := range []struct{ name, said, reason string }{
		{"nothing", "", ReasonPeer},
		{"garbage", "\x80\x01", ReasonSniff},
		{"TLS", "\x16\x03\x01", ReasonSniff},
		{"bare text", "my-secret-of-2021", ReasonBareText},
		{"bare text after frames", string(hathora.AppendPing(nil)) + "secret", ReasonBareText},
		{"T but not TRK1", "TRUE", ReasonSniff},
		{"JSON of 1 MiB", `{"appSecret":"` + strings.Repeat("x", 1<<20), ReasonRegistrationSize},
		{"not JSON", `{nonsense}`, ReasonRegistration},
		{"no secret", `{"storeId":"s"}`, ReasonRegistration},
		{"app id is none", `{"appId":"zz","appSecret":"s"}`, ReasonRegistration},
		{"half JSON", `{"appSecret"`, ReasonPeer},
		{"frame of type 9 first", "\x00\x00\x00\x01\x09", ReasonOldFraming},
		{"no type byte (January 2022)", "\x00\x00\x00\x0a\x12\x34\x56\x78\x9a\xbc\xde\xf0\x00x", ReasonOldFraming},
		{"empty frame", "\x00\x00\x00\x00\x00", ReasonOldFraming},
		{"17 MiB of frames", "\x00\xff\xff\xf0\x00" + strings.Repeat("x", 1<<24-17) + "\x00\x10\x00\x00\x00", ReasonSkipped},
		{"version 9", string(wire.AppendHello(nil, wire.Hello{Min: 9, Max: 9})) + register(func(*wire.RegisterBody) {})[10:], ReasonVersion},
		{"data first", hello + string(wire.AppendFrame(nil, &wire.Frame{Type: wire.Data})), ReasonType},
		{"4 GiB frame", hello + "\xff\xff\xff\xff", ReasonLength},
		{"unknown type", hello + "\x00\x00\x00\x02\xf0\x00", ReasonType},
		{"cut body", hello + "\x00\x00\x00\x03\x14\x00\x01", ReasonRegistration},
		{"tiny window", register(func(b *wire.RegisterBody) { b.Credit = 1000 }), ReasonRegistration},
		{"login is no JSON", register(func(b *wire.RegisterBody) { b.Login = []byte("{") }), ReasonRegistration},
		{"too many holds", register(func(b *wire.RegisterBody) { b.Held = 1 << 20 }), ReasonRegistration},
		{"a hold too much", register(func(b *wire.RegisterBody) { b.Held = 1 }) +
			string(wire.AppendHolds(nil, make([]wire.Held, 2))), ReasonRegistration},
		{"heartbeat for a hold", register(func(b *wire.RegisterBody) { b.Held = 1 }) +
			string(wire.AppendFrame(nil, &wire.Frame{Type: wire.Heartbeat})), ReasonType},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.MaxHolds = 1000
			_, _, err := acceptBytes(t, []byte(c.said), 1<<20, cfg)
			if ReasonOf(err) != c.reason {
				t.Fatalf("got %v, want reason %s", err, c.reason)
			}
			counted := 0.0
			cfg.Counters.Collect(func(name string, v float64, labels ...string) {
				if name == "tunnel_refused_total" && labels[1] == c.reason {
					counted = v
				}
			})
			if counted != 1 {
				t.Fatalf("reason counted %v times", counted)
			}
		})
	}
}

func TestRegistrationTakesTooLong(t *testing.T) {
	cfg := testConfig()
	cfg.RegisterTimeout = 20 * time.Millisecond
	for _, said := range []string{"", "{", "\x00", "TRK1", "\x00\x00\xff\xff\x00"} {
		ours, theirs := sockets(t)
		io.WriteString(theirs, said)
		if _, _, err := Accept(context.Background(), wrap(ours, cfg), cfg); ReasonOf(err) != ReasonTimeout {
			t.Fatalf("%q: %v", said, err)
		}
	}
}

func TestAcceptEndsWithItsContext(t *testing.T) {
	ours, _ := sockets(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Accept(ctx, wrap(ours, testConfig()), testConfig()); ReasonOf(err) != ReasonContext {
		t.Fatal(err)
	}
}

func TestNativeRegistration(t *testing.T) {
	holds := make([]Held, 5000)
	for i := range holds {
		holds[i] = Held{wire.StateID(i), wire.MakeEpoch(1, uint64(i))}
	}
	reg := Registration{
		Secret: "s3cr3t", StoreID: "store-9", Incarnation: [16]byte{1, 2}, Region: "eu", Capacity: 50,
		Login: []byte(`{"nickname":{}}`), Holds: holds,
	}
	p := nativePair(t, testConfig(), reg)
	got := p.registration
	if got.Kind != Native || got.Secret != "s3cr3t" || got.StoreID != "store-9" || !got.Named ||
		got.Incarnation != reg.Incarnation || got.Region != "eu" || got.Capacity != 50 ||
		string(got.Login) != string(reg.Login) || len(got.Holds) != 5000 || got.Holds[4999] != holds[4999] {
		t.Fatalf("registration %+v", got)
	}
	if p.instance.Instance() != 11 || p.instance.Gen() != 3 {
		t.Fatalf("registered as %d, %d", p.instance.Instance(), p.instance.Gen())
	}
}

func TestNativeRegistrationIsRefusedWithACode(t *testing.T) {
	for reason, code := range map[string]wire.Code{
		"unknown_app": wire.CodeUnknownApp, "taken_over": wire.CodeTakenOver, "shutdown": wire.CodeGoingAway,
	} {
		ours, theirs := sockets(t)
		cfg := testConfig()
		go func() {
			_, tun, err := Accept(context.Background(), wrap(ours, cfg), cfg)
			if err == nil {
				tun.Close(reason)
			}
		}()
		_, err := Attach(context.Background(), wrap(theirs, cfg), &Registration{Secret: "s", StoreID: "i"}, nil, cfg)
		var said *CodeError
		if ReasonOf(err) != ReasonRefused || !errors.As(err, &said) || said.Code != code || said.Reason != reason {
			t.Fatalf("%s: %v", reason, err)
		}
		ours.Close()
	}
}

func TestVersionIsRefusedWithACode(t *testing.T) {
	ours, theirs := sockets(t)
	cfg := testConfig()
	theirs.Write(wire.AppendHello(nil, wire.Hello{Min: 9, Max: 9}))
	if _, _, err := Accept(context.Background(), wrap(ours, cfg), cfg); ReasonOf(err) != ReasonVersion {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(theirs)
	var f wire.Frame
	body, _, err := wire.SplitFrame(answer[wire.HelloSize:], wire.MaxFrame)
	if err == nil {
		err = f.Decode(body)
	}
	if err != nil || f.Type != wire.Close || f.Code != wire.CodeVersion {
		t.Fatalf("answer %x: %+v, %v", answer, f, err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	var log bytes.Buffer
	reg := Registration{Secret: "hunter2hunter2"}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("registered", "secret", reg.Secret, "reg", reg)
	slog.New(slog.NewTextHandler(&log, nil)).Info("registered", "secret", reg.Secret, "reg", reg)
	said := log.String() + fmt.Sprintf("%v %+v %#v %s %q", reg, reg, reg, reg.Secret, reg.Secret)
	if strings.Contains(said, "hunter2") || strings.Contains(said, hex.EncodeToString([]byte("hunter2"))) {
		t.Fatal(said)
	}
}

// What a stranger says he holds is not read: 16 MiB of it would be kept for nobody.
func TestHoldsOfAStrangerAreNotRead(t *testing.T) {
	cfg := testConfig()
	cfg.Known = func(r *Registration) bool { return r.Secret == "known" }
	for secret, want := range map[string]string{"stranger": "", "known": ReasonPeer} {
		b := wire.RegisterBody{Credit: window, Secret: []byte(secret), StoreID: []byte("i"), Held: 1000}
		said := wire.AppendFrame(wire.AppendHello(nil, wire.OurHello()), &wire.Frame{Type: wire.Register, Payload: b.Append(nil)})
		reg, tun, err := acceptBytes(t, said, len(said), cfg)
		if ReasonOf(err) != want {
			t.Fatalf("%s: %v, want the reason %q", secret, err, want)
		}
		if err == nil {
			if len(reg.Holds) != 0 {
				t.Errorf("%d states were read", len(reg.Holds))
			}
			tun.Close("unknown_app")
		}
	}
}
