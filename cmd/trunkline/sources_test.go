package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file := write(t, "trunkline.yaml", "hold: 11s\ngrace: 2s\nlegacy-grace: 4s\nbind-addr: [127.0.0.1, '::1']\nurl-tokens: false\nmax-message: 64KiB\n", 0o644)
	for _, way := range []struct {
		name string
		env  []string
		args []string
	}{
		{"--config", nil, []string{"serve", "--config", file}},
		{"TRUNKLINE_CONFIG", []string{"TRUNKLINE_CONFIG", file}, []string{"serve"}},
		{"--config over TRUNKLINE_CONFIG", []string{"TRUNKLINE_CONFIG", "/nowhere"}, []string{"serve", "--config=" + file}},
	} {
		t.Run(way.name, func(t *testing.T) {
			env := append(way.env, "TRUNKLINE_GRACE", "3s", "TRUNKLINE_HOLD", "12s", "TRUNKLINE_REGION", "")
			g, src, err := parsed(t, newTheatre("", env...), append(way.args, "--hold", "13s")...)
			if err != nil {
				t.Fatal(err)
			}
			s := g.Serve.settings
			if s.Hold.Duration() != 13*time.Second {
				t.Errorf("hold %v: the flag does not win", s.Hold)
			}
			if s.Grace.Duration() != 3*time.Second {
				t.Errorf("grace %v: the environment does not beat the file", s.Grace)
			}
			if s.LegacyGrace.Duration() != 4*time.Second || s.URLTokens || s.MaxMessage != 64<<10 || !slices.Equal(s.BindAddr, []string{"127.0.0.1", "::1"}) {
				t.Errorf("the file does not beat the defaults: %+v", s)
			}
			if s.Region != "local" || s.TunnelStall.Duration() != 10*time.Second {
				t.Errorf("region %q, stall %v: an empty variable or a missing key is not the default", s.Region, s.TunnelStall)
			}
			if got := src.origin["grace"]; got != "environment variable TRUNKLINE_GRACE" {
				t.Errorf("origin of grace: %q", got)
			}
			if got := src.origin["legacy-grace"]; got != file {
				t.Errorf("origin of legacy-grace: %q", got)
			}
		})
	}
}

func TestDevHasItsOwnDefaults(t *testing.T) {
	g, _, err := parsed(t, newTheatre(""), "dev")
	if err != nil {
		t.Fatal(err)
	}
	s := g.Dev.settings
	if s.ClientAddr != ":8080" || s.TLS != "both" || s.Apps != "open" || !slices.Equal(s.BindAddr, []string{"localhost"}) || s.NodeID != "dev" {
		t.Errorf("dev: %+v", s)
	}
	if g, _, err = parsed(t, newTheatre(""), "serve"); err != nil {
		t.Fatal(err)
	}
	s = g.Serve.settings
	if s.ClientAddr != ":443" || s.TLS != "on" || s.Apps != "listed" || len(s.BindAddr) != 0 {
		t.Errorf("serve: %+v", s)
	}
}

func TestUnknownKeysNameTheNearestKnownOne(t *testing.T) {
	for key, near := range map[string]string{
		"client-adr": "client-addr", "tunel-addr": "tunnel-addr", "tls_cert": "tls-cert", "HOLD": "hold", "regoin": "region",
		"limit-conns-per-ips": "limit-conns-per-ip", "log-lvl": "log-level", "zzzzz": "apps",
	} {
		file := write(t, "c.yaml", "region: eu\n"+key+": 1\n", 0o644)
		th := newTheatre("")
		if status := play(t, th, "config", "check", "--config", file); status != exitMisuse {
			t.Errorf("%s: status %d, want 2", key, status)
		}
		if got := th.err.String(); !strings.Contains(got, file) || !strings.Contains(got, "line 2") || !strings.Contains(got, `"`+key+`"`) || key != "zzzzz" && !strings.Contains(got, `did you mean "`+near+`"`) {
			t.Errorf("%s: %s", key, got)
		}
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"twice":       "hold: 1s\nhold: 2s\n",
		"nested":      "hold: {a: b}\n",
		"null":        "hold:\n",
		"deep list":   "bind-addr: [[a]]\n",
		"comma":       "bind-addr: ['a,b']\n",
		"no mapping":  "- hold\n",
		"two":         "hold: 1s\n---\ngrace: 1s\n",
		"no yaml":     "hold: [\n",
		"alias":       "hold: &a 1s\ngrace: *a\n",
		"bad value":   "hold: soon\n",
		"config":      "config: other.yaml\n",
		"help":        "help: true\n",
		"enumeration": "tls: maybe\n",
		"huge":        "# " + strings.Repeat("x", maxConfigBytes),
	} {
		th := newTheatre("")
		if status := play(t, th, "config", "check", "--config", write(t, "c.yaml", text, 0o644)); status != exitMisuse {
			t.Errorf("%s: status %d, want 2: %s", name, status, th.out.String())
		}
	}
	th := newTheatre("")
	if status := play(t, th, "config", "check", "--config", "/does/not/exist.yaml"); status != exitMisuse || !strings.Contains(th.err.String(), "/does/not/exist.yaml") {
		t.Errorf("a missing file: status %d, %s", status, th.err.String())
	}
}

func TestErrorsNameTheSource(t *testing.T) {
	th := newTheatre("", "TRUNKLINE_HOLD", "soon")
	if play(t, th, "config", "check"); !strings.Contains(th.err.String(), "TRUNKLINE_HOLD") || !strings.Contains(th.err.String(), "30s") {
		t.Errorf("%s", th.err.String())
	}
	file := write(t, "c.yaml", "max-message: big\n", 0o644)
	th = newTheatre("")
	if play(t, th, "config", "check", "--config", file); !strings.Contains(th.err.String(), file) {
		t.Errorf("%s", th.err.String())
	}
}

func TestShares(t *testing.T) {
	for text, want := range map[string]int{"half": 500, "0": 0, "20000": 20000} {
		var s share
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Of(1000) != want || s.String() != text {
			t.Errorf("%s: %v of 1000 is %d, %v", text, s, s.Of(1000), err)
		}
	}
	for _, text := range []string{"", "-1", "quarter", "1.5", "99999999999"} {
		var s share
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, s)
		}
	}
}

func TestSpansAndSizes(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "500ms": 500 * time.Millisecond, "30s": 30 * time.Second, "365d": 365 * 24 * time.Hour, "1h30m": 90 * time.Minute} {
		var s span
		if err := s.UnmarshalText([]byte(text)); err != nil || s.Duration() != want {
			t.Errorf("%s: %v, %v", text, s.Duration(), err)
		}
		var back span
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("%s prints as %s, which reads as %v, %v", text, s, back, err)
		}
	}
	for _, text := range []string{"", "5", "-1s", "1w", "d", "1.5d", "99999d", "-1d", "40000h0m0.1x", "1000000h"} {
		var s span
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, s)
		}
	}
	for text, want := range map[string]size{"0": 0, "17": 17, "17B": 17, "64KiB": 64 << 10, "1MiB": 1 << 20, "1GiB": 1 << 30} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
		var back size
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("%s prints as %s", text, s)
		}
	}
	for _, text := range []string{"", "x", "-1", "1MB", "1.5MiB", "99999999999", "2000000000GiB"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, s)
		}
	}
}

// Any file is either refused or read into known keys.
func TestAnyFileIsRefusedOrKnown(t *testing.T) {
	known := []string{"hold", "bind-addr", "region"}
	bits := []string{"hold", "bind-addr", "region", "other", ":", " ", "\n", "- ", "[", "]", "{", "}", ",", "&a", "*a", "!!binary ", "? ", "---\n", "...\n", "#", "'", "\"", "|", ">", "1s", "\t", "\x00", "\xff", "%", "<<"}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(bits), 0, 24).Draw(t, "file"), "")
		values, err := parseConfig(strings.NewReader(text), known)
		if err != nil {
			return
		}
		for key := range values {
			if !slices.Contains(known, key) {
				t.Fatalf("unknown key %q was taken", key)
			}
		}
	})
}

// What is wrong with a file is not blamed on the first flag that was looked for in it.
func TestConfigIsToBlameForItsFile(t *testing.T) {
	for file, says := range map[string]string{write(t, "bad.yaml", "nodeid: n1\n", 0o644): "line 1: unknown key", "/nowhere.yaml": "no such file"} {
		th := newTheatre("")
		if status := play(t, th, "serve", "--config", file); status != exitMisuse || !strings.HasPrefix(th.err.String(), "trunkline: --config: ") || !strings.Contains(th.err.String(), says) {
			t.Errorf("status %d: %s", status, th.err.String())
		}
	}
}
