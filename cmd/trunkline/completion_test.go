package main

import (
	"os/exec"
	"strings"
	"testing"
)

// What bash offers behind a word, by the script itself.
func TestCompletionOffersWhatMayFollow(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash here")
	}
	th := newTheatre("")
	if status := play(t, th, "completion", "bash"); status != exitDone {
		t.Fatalf("status %d", status)
	}
	for words, want := range map[string]string{
		"serve --tls ''":         "on both off",
		"serve --tls = b":        "both",
		"serve --tls on --data-": "--data-dir",
		"serve --data-dir ''":    "", // a file's name
		"snapshot save --over":   "--overwrite",
		"key ''":                 "add use drop status --help",
		"config check --for s":   "serve",
	} {
		script := th.out.String() + "\nCOMP_WORDS=(trunkline " + words + ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_trunkline\necho \"${COMPREPLY[*]}\"\n"
		out, err := exec.CommandContext(t.Context(), bash, "--norc", "-c", script).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("behind %q: %q, want %q: %v", words, got, want, err)
		}
	}
}
