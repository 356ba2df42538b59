package trust

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	keyFileMagic   = "trunkline-key"
	keyFileVersion = "1"
	primaryMark    = "primary"
	maxKeyFile     = 4 << 10 // bytes
)

// Limits of a key file.
const (
	MaxName    = 128 // bytes of a cluster's name
	MaxSecrets = 8
)

// ring is the content of a key file. It is not changed once it is made.
type ring struct {
	name    string
	secrets []Secret // in the order of the file; no two are alike
	primary int      // index into secrets
}

// Generate returns the text of a key file with one new secret.
func Generate(name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return newRing(name).text(), nil
}

// CheckName says what is wrong with the name of a cluster.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("the name of a cluster has 1 to %d characters, not %d", MaxName, len(name))
	}
	for _, c := range []byte(name) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
		if !plain {
			return fmt.Errorf("the name of a cluster has letters, digits, '-', '_' and '.' only, not %q", name)
		}
	}
	return nil
}

func newRing(name string) *ring { return &ring{name: name, secrets: []Secret{NewSecret()}} }

// text is the key file. Its bytes are a function of the content.
func (r *ring) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\n", keyFileMagic, keyFileVersion, r.name)
	for i, s := range r.secrets {
		b.WriteString(s.Reveal())
		if i == r.primary {
			b.WriteString(" " + primaryMark)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// parseRing reads the text of a key file. Its errors name lines and never quote one that may hold a secret.
func parseRing(text []byte) (*ring, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	lines := strings.Split(string(text), "\n")
	head := strings.Fields(lines[0])
	switch {
	case len(head) == 0 || head[0] != keyFileMagic:
		return nil, fmt.Errorf("its first line is not %q: `trunkline keygen` makes one", keyFileMagic+" "+keyFileVersion+" <cluster-name>")
	case len(head) != 3:
		return nil, fmt.Errorf("its first line has %d words, not three: %s, the version, the cluster's name", len(head), keyFileMagic)
	case head[1] != keyFileVersion:
		return nil, fmt.Errorf("it is of version %.20q, this program reads version %s", head[1], keyFileVersion)
	}
	if err := CheckName(head[2]); err != nil {
		return nil, err
	}
	r := &ring{name: head[2], primary: -1}
	for i, line := range lines[1:] {
		if err := r.parseLine(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
	}
	switch {
	case len(r.secrets) == 0:
		return nil, fmt.Errorf("it has no secret: `trunkline keygen %s` makes one", r.name)
	case r.primary < 0:
		return nil, fmt.Errorf("no secret is marked %q: put the word behind the one that the cluster encrypts with", primaryMark)
	}
	return r, nil
}

func (r *ring) parseLine(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	s, err := ParseSecret(words[0])
	if err != nil {
		return err
	}
	marked := len(words) == 2 && words[1] == primaryMark
	switch {
	case len(words) > 1 && !marked:
		return fmt.Errorf("behind a secret there is %q or nothing", primaryMark)
	case r.index(s.ID()) >= 0:
		return fmt.Errorf("secret %s is there twice", s.ID())
	case len(r.secrets) == MaxSecrets:
		return fmt.Errorf("there are more than %d secrets", MaxSecrets)
	case marked && r.primary >= 0:
		return fmt.Errorf("two secrets are marked %q", primaryMark)
	case marked:
		r.primary = len(r.secrets)
	}
	r.secrets = append(r.secrets, s)
	return nil
}

// index returns where a secret is, -1 if it is not there.
func (r *ring) index(id KeyID) int {
	for i, s := range r.secrets {
		if s.ID() == id {
			return i
		}
	}
	return -1
}
