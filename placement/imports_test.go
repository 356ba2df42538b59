package placement

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestImportsNothingThatDiffersBetweenNodes: what the table does depends on its entries alone.
func TestImportsNothingThatDiffersBetweenNodes(t *testing.T) {
	forbidden := map[string]string{
		"time":         "no two clocks agree; times come in as fields of commands",
		"math/rand":    "random numbers are inputs of Choose",
		"math/rand/v2": "random numbers are inputs of Choose",
		"crypto/rand":  "secrets are made by whoever proposes Form",
		"hash/maphash": "its seed differs in every process",
		"os":           "a table has no files and no environment",
		"net":          "a table knows no network",
		"unsafe":       "addresses differ between processes",
	}
	list, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, f := range list {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		looked++
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why, bad := forbidden[path]; bad {
				t.Errorf("%s imports %s: %s", f.Name(), path, why)
			}
		}
	}
	if looked < 10 {
		t.Fatalf("only %d files were looked at", looked)
	}
}
