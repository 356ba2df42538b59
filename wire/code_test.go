package wire

import (
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCodesAreWellFormed(t *testing.T) {
	var last Code
	names := map[string]bool{}
	for _, i := range Codes() {
		if i.Code <= last {
			t.Errorf("%d comes after %d", i.Code, last)
		}
		last = i.Code
		if i.Reason == "" || len(i.Reason) > MaxReason || !utf8.ValidString(i.Reason) {
			t.Errorf("%d has the reason %q", i.Code, i.Reason)
		}
		if i.Name == "" || names[i.Name] || strings.Trim(i.Name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%d has the name %q", i.Code, i.Name)
		}
		names[i.Name] = true
		if i.Code.Reason() != i.Reason || i.Code.String() != i.Name || i.Code.Reconnect() != i.Reconnect || !i.Code.Sendable() || !i.Code.Known() {
			t.Errorf("%d does not say what its line says", i.Code)
		}
		if strings.HasPrefix(i.Advice, "Reconnect") != i.Reconnect {
			t.Errorf("%d: advice %q, reconnect %v", i.Code, i.Advice, i.Reconnect)
		}
		if i.Code >= 4500 && i.Reconnect {
			t.Errorf("%d is for good, but asks to reconnect", i.Code)
		}
	}
}

func TestUnknownCodes(t *testing.T) {
	for code, want := range map[Code]struct{ reconnect, sendable bool }{
		0: {}, 999: {}, 1004: {}, 1005: {}, 1006: {}, 1014: {sendable: true}, 1015: {}, 2999: {},
		3000: {true, true}, 3499: {true, true}, 3500: {false, true}, 3999: {false, true},
		4100: {true, true}, 4499: {true, true}, 4900: {false, true}, 5000: {}, 65535: {},
	} {
		if code.Reconnect() != want.reconnect || code.Sendable() != want.sendable {
			t.Errorf("%d: reconnect %v, sendable %v", code, code.Reconnect(), code.Sendable())
		}
		if code.Reason() == "" || !strings.HasPrefix(code.String(), "code_") || code.Known() {
			t.Errorf("%d is called %q, %q", code, code, code.Reason())
		}
	}
}

// TestDocListsEveryCode keeps docs/close-codes.md and the table from differing.
func TestDocListsEveryCode(t *testing.T) {
	doc, err := os.ReadFile("../docs/close-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, i := range Codes() {
		want = append(want, i.row())
	}
	var got []string
	for line := range strings.Lines(string(doc)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "| ") && len(line) > 6 && line[2] >= '0' && line[2] <= '9' {
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/close-codes.md has the lines\n%s\nthe table has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (i CodeInfo) row() string {
	again := "no"
	if i.Reconnect {
		again = "yes"
	}
	return "| " + strings.Join([]string{codeText(i.Code), "`" + i.Name + "`", i.Reason, again, i.Advice}, " | ") + " |"
}

func codeText(c Code) string {
	return string([]byte{'0' + byte(c/1000), '0' + byte(c/100%10), '0' + byte(c/10%10), '0' + byte(c%10)})
}
