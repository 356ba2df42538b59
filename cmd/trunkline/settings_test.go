package main

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestSettingsThatMakeNoSenseAreMisuse(t *testing.T) {
	for _, tc := range []struct{ args, says string }{
		{"serve", "--tls off"},
		{"serve --tls off", "--data-dir"},
		{"serve --tls both --data-dir x", "--tls-cert"},
		{"serve --tls-cert a.pem", "belong together"},
		{"serve --tls off --tls-cert a --tls-key b", "contradict"},
		{"serve --tls maybe", "must be one of"},
		{"serve --max-message 16MiB", "15MiB"},
		{"serve --max-message 0", "15MiB"},
		{"serve --hold 45s", "below"},
		{"serve --limit-conns-per-ip=-1", "no limit"},
		{"serve --node-id Node_1", "--node-id"},
		{"serve --region EU!", "--region"},
		{"serve --plain-from 10.0.0.1", "CIDR"},
		{"serve --public-url example.com", "--public-url"},
		{"serve --public-url https://example.com/path", "--public-url"},
		{"serve --client-addr 8080", "--client-addr"},
		{"serve --client-addr :99999", "65535"},
		{"serve --client-addr example.com:1", "IP address"},
		{"serve --bind-addr example.com", "IP address"},
		{"serve --hold", "the value is missing"},
		{"serve --nonsense", "unknown flag"},
		{"dev --bind-addr 0.0.0.0", "--allow-remote"},
		{"dev --client-addr 10.0.0.1:80", "--allow-remote"},
		{"dev --admin-addr :7180", "--allow-remote"},
		{"config check --for nobody", "must be one of"},
		{"states --limit 0", "--limit"},
		{"apps set dev", "nothing to set"},
		{"where", "expected"},
		{"completion csh", "must be one of"},
		{"status --admin ftp://x", "--admin"},
		{"frobnicate", "unexpected argument"},
	} {
		th := newTheatre("")
		if status := play(t, th, strings.Fields(tc.args)...); status != exitMisuse {
			t.Errorf("%s: status %d, want 2", tc.args, status)
		}
		if got := th.err.String(); !strings.Contains(got, tc.says) || !strings.Contains(got, "--help") {
			t.Errorf("%s: says %q, want %q in it", tc.args, got, tc.says)
		}
		if th.out.String() != "" {
			t.Errorf("%s: prints to stdout: %s", tc.args, th.out.String())
		}
	}
}

func TestHelpIsDone(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {}, {"serve", "--help"}, {"dev", "-h"}} {
		th := newTheatre("")
		if status := play(t, th, args...); status != exitDone || !strings.Contains(th.out.String(), "Usage: trunkline") {
			t.Errorf("%v: status %d, %s", args, status, th.out.String())
		}
	}
	th := newTheatre("")
	if play(t, th, "dev", "--help"); !strings.Contains(th.out.String(), "Default: :8080") || !strings.Contains(th.out.String(), "$TRUNKLINE_CLIENT_ADDR") {
		t.Errorf("the help of dev lacks its default or the environment: %s", th.out.String())
	}
}

func TestConfigCheckSaysWhereSettingsComeFrom(t *testing.T) {
	file := write(t, "c.yaml", "tls: 'off'\ndata-dir: /var/lib/trunkline\n", 0o644)
	th := newTheatre("", "TRUNKLINE_REGION", "eu", "TRUNKLINE_CONFIG", file)
	if status := play(t, th, "config", "check"); status != exitDone {
		t.Fatalf("status %d: %s", status, th.err.String())
	}
	want := "--config: from environment variable TRUNKLINE_CONFIG\n--data-dir: from " + file + "\n--region: from environment variable TRUNKLINE_REGION\n--tls: from " + file + "\nThe configuration is good.\n"
	if got := th.out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if status := play(t, newTheatre(""), "config", "check", "--for", "dev"); status != exitDone {
		t.Errorf("dev without anything: status %d", status)
	}
}

func TestPlainFrom(t *testing.T) {
	inside := func(t *testing.T, list []string, addr string) bool {
		t.Helper()
		s := settings{PlainFrom: list}
		prefixes, err := s.plainFrom()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range prefixes {
			if p.Contains(netip.MustParseAddr(addr)) {
				return true
			}
		}
		return false
	}
	for _, tc := range []struct {
		list []string
		addr string
		want bool
	}{
		{[]string{"private"}, "127.0.0.1", true},
		{[]string{"private"}, "10.2.3.4", true},
		{[]string{"private"}, "203.0.113.1", false},
		{[]string{"private"}, "fd00::1", true},
		{[]string{"none"}, "127.0.0.1", false},
		{[]string{"all"}, "203.0.113.1", true},
		{[]string{"all"}, "2001:db8::1", true},
		{[]string{"none", "203.0.113.9/24"}, "203.0.113.1", true},
	} {
		if got := inside(t, tc.list, tc.addr); got != tc.want {
			t.Errorf("%v has %s: %v", tc.list, tc.addr, got)
		}
	}
}

func TestKeyFilesOfOthersAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660} {
		if _, err := readSecret("--admin-token-file", write(t, "token", "secret-secret-secret", mode)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if s, err := readSecret("--x", write(t, "token", " secret-secret-secret\n", mode)); err != nil || s != "secret-secret-secret" {
			t.Errorf("mode %o: %d bytes, %v", mode, len(s), err)
		}
	}
	for name, text := range map[string]string{"empty": " \n", "huge": strings.Repeat("x", maxSecretFile+1)} {
		if _, err := readSecret("--x", write(t, "token", text, 0o600)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := readSecret("--x", t.TempDir()); err == nil {
		t.Error("a directory is taken")
	}
	if _, err := readSecret("--x", "/nowhere/at/all"); err == nil || !strings.Contains(err.Error(), "--x") {
		t.Errorf("a missing file: %v", err)
	}
}
