package trust

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from %s, and others read what it has:\n%s", name, path, got)
	}
}

// fixedSecret is a secret that is the same in every run.
func fixedSecret(n byte) Secret {
	var s Secret
	for i := range s.bytes {
		s.bytes[i] = n + byte(i)
	}
	return s
}

// fixedKeys has the given secrets, the first of them primary.
func fixedKeys(name string, secrets ...Secret) *Keys {
	return makeKeys("", &ring{name: name, secrets: secrets})
}
