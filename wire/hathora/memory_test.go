package hathora

import (
	"errors"
	"strings"
	"testing"
)

// TestJSONTakesLittleMemory has the inputs that make encoding/json take more than its input would suggest.
func TestJSONTakesLittleMemory(t *testing.T) {
	for _, s := range []string{
		`{"a":` + strings.Repeat("[", maxDepth-1) + `"]]]["` + strings.Repeat("]", maxDepth-1) + "}",
		`{"appSecret":"s","x":` + strings.Repeat("[", 7000) + strings.Repeat("]", 7000) + "}",
		`{"appSecret":"s","x":` + strings.Repeat(`{"a":`, 2500) + "1" + strings.Repeat("}", 2500) + "}",
		`{"appSecret":"s","x":` + strings.Repeat("[", 15000),
		`{` + strings.Repeat(`"appSecret":"ssssssssssssssssssssssssssssss",`, 300) + `"a":1}`,
		`{"appSecret":"` + strings.Repeat(`\u1234`, 2500) + `"}`,
		`{` + strings.Repeat(`"a":1,`, 2600) + `"a":1}`,
		`{` + strings.Repeat(`"token":"\n",`, 1200) + `"a":1}`,
		`{` + strings.Repeat(`"authInfo":1,`, 1200) + `"a":1}`,
		`{"authInfo":` + strings.Repeat(" ", 60000) + `1,"appSecret":"s"}`,
		`{"appSecret":"` + strings.Repeat(`\n`, 32000) + `"}`,
		`{"appSecret":` + strings.Repeat(`1`, 65000) + `}`,
		`{"authInfo":[` + strings.Repeat(`1,`, 32000) + `1],"appSecret":"s"}`,
	} {
		t.Run(s[:min(40, len(s))], func(t *testing.T) {
			withinMemory(t, len(s), func() { _, _ = ParseRegistration([]byte(s)) })
			withinMemory(t, len(s), func() { _, _ = ParseConnect([]byte(s)) })
		})
	}
}

func TestDeepJSONIsRefused(t *testing.T) {
	nested := func(depth int) string {
		return `{"appSecret":"]}","token":"t","x":` + strings.Repeat(`[`, depth-1) + strings.Repeat(`]`, depth-1) + "}"
	}
	if _, err := ParseRegistration([]byte(nested(maxDepth))); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	if _, err := ParseConnect([]byte(nested(maxDepth))); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	if _, err := ParseRegistration([]byte(nested(maxDepth + 1))); !errors.Is(err, ErrRegistration) {
		t.Errorf("%d levels: %v", maxDepth+1, err)
	}
	if _, err := ParseConnect([]byte(nested(maxDepth + 1))); !errors.Is(err, ErrFirst) {
		t.Errorf("%d levels: %v", maxDepth+1, err)
	}
}
