package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

const otherSecret = "canary-secret-of-another-app, long enough"

// An instance reaches the states of its own app only, whatever it names: the app comes from its registration. What it says
// for the state, the epoch or the session of another app is dropped and counted, and changes nothing there.
func TestInstanceReachesItsOwnAppOnly(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		app := wire.AppIDOf(secret)
		own := w.backend(tunnel.Native, secret, "s1")
		p := w.joins(secret, 7, "ann")
		w.says(own, func(s tunnel.Sink) { s.SessionAccepted(1) })
		before, _ := w.r.table.Lookup(app, 7)
		for _, kind := range []tunnel.Kind{tunnel.Native, tunnel.Legacy} {
			strange := w.backend(kind, otherSecret, "s1")
			own.take()
			p.take()
			strange.take()
			dropped := w.r.stats.dropNotOwner.Load() + w.r.stats.dropNoSession.Load() + w.r.stats.dropStaleEpoch.Load()
			w.says(strange, func(s tunnel.Sink) {
				s.ToUser(7, before.Epoch, []byte("ann"), []byte("canary-payload to a user"))
				s.ToAll(7, before.Epoch, 0, []byte("canary-payload to all"), false)
				s.ToSession(1, 1, []byte("canary-payload to a session"), false)
				s.CloseUser(7, []byte("ann"))
				s.CloseSession(1, 4100, nil)
				s.StateAccepted(7, before.Epoch)
				s.StateRefused(7, before.Epoch, 4100, nil)
				s.StateReleased(7, before.Epoch)
				s.SessionAccepted(1)
				s.Acked(1, 100)
				s.Expected(1, 100)
			})
			want(t, "client of the other app", p.take(), "")
			want(t, "instance of the other app", own.take(), "")
			if row, ok := w.r.table.Lookup(app, 7); !ok || row != before {
				t.Errorf("the row was %+v and is %+v, %v", before, row, ok)
			}
			if n := w.r.stats.dropNotOwner.Load() + w.r.stats.dropNoSession.Load() + w.r.stats.dropStaleEpoch.Load() - dropped; n < 4 {
				t.Errorf("%v: %d frames were counted as dropped", kind, n)
			}
			w.breaks(strange)
			time.Sleep(10 * time.Second) // the end of its grace
		}
		p.sends("still here")
		want(t, "instance", own.take(), `data 7 ann 1 "still here"`)
		p.leaves()
	})
}

// An instance cannot vouch for a state of its app that another instance has: only its owner makes a tentative row firm.
func TestOnlyTheOwnerVouchesForAState(t *testing.T) {
	for _, kind := range []tunnel.Kind{tunnel.Legacy, tunnel.Native} {
		inWorld(t, nil, func(w *world) {
			owner := w.backend(kind, secret, "s1")
			w.joins(secret, 7, "ann").leaves()
			row, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7)
			other := w.backend(kind, secret, "s2")
			vouch := func(s tunnel.Sink) { s.ToUser(7, row.Epoch, []byte("ann"), []byte("x")) }
			w.says(other, vouch)
			if now, ok := w.r.table.Lookup(wire.AppIDOf(secret), 7); !ok || !now.Tentative || w.r.stats.dropNotOwner.Load() != 1 {
				t.Errorf("%v: after another instance spoke the row is %+v, %v; %d frames were dropped", kind, now, ok, w.r.stats.dropNotOwner.Load())
			}
			w.says(owner, vouch)
			if now, ok := w.r.table.Lookup(wire.AppIDOf(secret), 7); !ok || now.Tentative {
				t.Errorf("%v: after its owner spoke the row is %+v, %v", kind, now, ok)
			}
		})
	}
}

// An instance that releases what it does not own, as often as it likes, is told so and makes nobody propose anything.
func TestReleasesOfOthersStatesAreNotProposed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		row, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7)
		stranger := w.backend(tunnel.Native, secret, "s2")
		b.take()
		stranger.take()
		before := w.r.table.Index()
		const many = 100
		w.says(stranger, func(s tunnel.Sink) {
			for i := range many {
				s.StateReleased(wire.StateID(1000+i), row.Epoch) // nobody's
				s.StateReleased(7, row.Epoch)                    // another instance's
			}
		})
		w.says(b, func(s tunnel.Sink) { s.StateReleased(7, row.Epoch+1) }) // of another epoch
		if n := strings.Count(stranger.take(), "not-owner"); n != 2*many {
			t.Errorf("it was told %d times, want %d", n, 2*many)
		}
		if after := w.r.table.Index(); after != before {
			t.Errorf("%d commands were committed", after-before)
		}
		if n := w.r.stats.proposalFailed.Load(); n != 0 {
			t.Errorf("%d proposals failed", n)
		}
		ann.sends("still here")
		want(t, "instance", b.take(), `data 7 ann 1 "still here"`)
		ann.leaves()
	})
}

// A registration opens the app that its secret belongs to, and no other, whatever it says.
func TestAppOfARegistration(t *testing.T) {
	p := newFakePlacer(t)
	listed, first, second := wire.AppIDOf("first"), sha256.Sum256([]byte("first")), sha256.Sum256([]byte("second"))
	p.apply(&placement.SetApp{App: listed, Secrets: [][32]byte{first, second}})
	removed := wire.AppIDOf("removed")
	p.apply(&placement.SetApp{App: removed, Secrets: [][32]byte{sha256.Sum256([]byte("later"))}})
	none, stranger := wire.AppID{}, wire.AppIDOf("stranger")
	for name, c := range map[string]struct {
		secret    string
		says      wire.AppID
		opens     wire.AppID
		whenOpen  string
		whenClose string
	}{
		"first secret":             {"first", none, listed, "", ""},
		"first secret, its id":     {"first", listed, listed, "", ""},
		"second secret":            {"second", none, listed, "", ""},
		"second secret, its id":    {"second", listed, listed, "", ""},
		"another app's id":         {"first", removed, removed, refusedMismatch, refusedMismatch},
		"an id nobody knows":       {"first", stranger, stranger, refusedMismatch, refusedMismatch},
		"the id of its own hash":   {"second", wire.AppIDOf("second"), listed, "", ""},
		"a listed app's id":        {"stranger", listed, listed, refusedMismatch, refusedMismatch},
		"removed secret":           {"removed", none, removed, refusedApp, refusedApp},
		"removed secret, its id":   {"removed", removed, removed, refusedApp, refusedApp},
		"nobody's secret":          {"stranger", none, stranger, "", refusedApp},
		"nobody's secret, its id":  {"stranger", stranger, stranger, "", refusedApp},
		"no secret":                {"", none, wire.AppIDOf(""), refusedApp, refusedApp},
		"no secret, a listed app":  {"", listed, listed, refusedMismatch, refusedMismatch},
		"no secret, hash of empty": {"", wire.AppIDOf(""), wire.AppIDOf(""), refusedApp, refusedApp},
	} {
		for open, wanted := range map[bool]string{true: c.whenOpen, false: c.whenClose} {
			w := newWorld(t, func(cfg *Config) { cfg.OpenApps = open }, p)
			app, refusal := w.r.appOf(&tunnel.Registration{Secret: tunnel.Secret(c.secret), AppID: c.says})
			if refusal != wanted || app != c.opens {
				t.Errorf("%s, open %v: %q, app %v; want %q, %v", name, open, refusal, app, wanted, c.opens)
			}
		}
	}
}

// Names that backends choose stand quoted in the log: none can forge a line or steer a terminal.
func TestNamesAreQuotedInTheLog(t *testing.T) {
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			inWorld(t, nil, func(w *world) {
				w.r.log = slog.New(handler(&log))
				b := w.backend(tunnel.Legacy, secret, "x\nlevel=ERROR msg=forged\x1b[31m\x00\u2028"+strings.Repeat("y", 200))
				w.breaks(b)
				time.Sleep(10 * time.Second)
			})
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if len(lines) != 3 { // attached, detached, gone
				t.Errorf("%d lines in the log: %q", len(lines), lines)
			}
			for _, line := range lines {
				if strings.ContainsAny(line, "\x00\x1b") || strings.HasPrefix(line, "level=ERROR") {
					t.Errorf("the log has the line %q", line)
				}
			}
		})
	}
}

// brokenPlacer commits nothing.
type brokenPlacer struct{ *fakePlacer }

func (brokenPlacer) Register(context.Context, placement.RegisterRequest) (placement.Attached, error) {
	return placement.Attached{}, errors.New("a login configuration is a JSON object")
}

func (brokenPlacer) Place(context.Context, placement.PlaceRequest) (placement.Row, error) {
	return placement.Row{}, errors.New("disk full")
}

// Whoever makes commands fail, again and again, fills no log.
func TestFailuresThatStrangersCauseAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := Default()
		cfg.OpenApps, cfg.UnknownRate = true, UnknownRate{}
		r, err := New(cfg, Deps{Placer: brokenPlacer{newFakePlacer(t)}, Log: slog.New(slog.NewTextHandler(&log, nil)), Tunnel: tunnel.Default()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		w := &world{t: t, r: r, ctx: ctx}
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		const tries = 100
		for range tries {
			w.backend(tunnel.Legacy, secret, "s1")
			if _, refusal := w.tries(secret, 7, "ann"); refusal == nil || refusal.Code != wire.CodeInternal {
				t.Errorf("a join got %v, want 1011", refusal)
			}
		}
		if n := r.refusals(refusedTable); n != tries {
			t.Errorf("%d refusals were counted, want %d", n, tries)
		}
		if n := strings.Count(log.String(), "\n"); n > 3 { // registering, refused, placing
			t.Errorf("%d lines in the log:\n%s", n, &log)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A mistake in what parses registrations ends one connection; the port goes on.
func TestPanicWhileRegisteringEndsItsConnectionOnly(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newWorld(t, nil, newFakePlacer(t)).r
	var log bytes.Buffer
	r.log = slog.New(slog.NewTextHandler(&log, nil))
	meet := func() (*tunnel.Registration, string) {
		theirs, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		ours, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		if _, err := io.WriteString(theirs, `{"appSecret":"secret","storeId":"a"}`); err != nil {
			t.Fatal(err)
		}
		reg, _, reason := r.meet(t.Context(), ours, nil)
		if reason != "" {
			_, _ = io.ReadAll(theirs) // it is closed: its end, or a reset
		}
		return reg, reason
	}
	now := r.tcfg.Now
	r.tcfg.Now = func() time.Time { panic("canary-secret-of-a-registration") }
	if reg, reason := meet(); reg != nil || reason != tunnel.ReasonPanic {
		t.Errorf("registration %v, reason %q", reg, reason)
	}
	r.tcfg.Now = now
	if reg, reason := meet(); reg == nil || reason != "" {
		t.Errorf("the next: registration %v, reason %q", reg, reason)
	}
	if text := log.String(); strings.Contains(text, "canary") || !strings.Contains(text, "panicked") {
		t.Errorf("the log says %s", text)
	}
}

// First connections to unknown states are limited per user and per app as well, over all addresses.
func TestUnknownStatesAreLimitedPerUserAndApp(t *testing.T) {
	for name, c := range map[string]struct {
		rate        UnknownRate
		user, other string
		third       string // an app of its own
	}{
		"user": {UnknownRate{PerUser: 1}, "ann", "bob", secret},
		"app":  {UnknownRate{PerApp: 1}, "ann", "ann", otherSecret},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(cfg *Config) { cfg.UnknownRate = c.rate }, func(w *world) {
				w.backend(tunnel.Legacy, secret, "s1")
				w.backend(tunnel.Legacy, otherSecret, "s1")
				for i := range 4 {
					w.joins(secret, wire.StateID(100+i), c.user).leaves()
				}
				if _, refusal := w.tries(secret, 200, c.user); refusal == nil || refusal.Code != wire.CodeTryLater {
					t.Errorf("beyond the limit: %v, want 1013", refusal)
				}
				w.joins(c.third, 200, c.other).leaves()
			})
		})
	}
}

// An app has as many states as it may: connecting to one more is answered with 1013, to one that is there is not.
func TestStatesBeyondTheCapOfAnAppAreNotPlaced(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.placer.apply(&placement.SetApp{
			App: wire.AppIDOf(secret), Secrets: [][32]byte{sha256.Sum256([]byte(secret))}, Settings: placement.AppSettings{MaxStates: 2},
		})
		w.backend(tunnel.Legacy, secret, "s1")
		one, two := w.joins(secret, 1, "ann"), w.joins(secret, 2, "ann")
		if _, refusal := w.tries(secret, 3, "ann"); refusal == nil || refusal.Code != wire.CodeTryLater {
			t.Errorf("a state beyond the cap: %v, want 1013", refusal)
		}
		w.joins(secret, 1, "bob").leaves()
		one.leaves()
		two.leaves()
	})
}
