package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// envPrefix begins the environment's names.
const envPrefix = "TRUNKLINE_"

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// envName answers the environment's name of a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// sources gives kong the values that the command line does not: the
// environment's, then the file's. An empty variable counts as not set.
type sources struct {
	env func(string) (string, bool)

	read   bool              // the file was looked for
	path   string            // "" when there is none
	values map[string]string // of the file, by flag name
	err    error             // why the file could not be read
	origin map[string]string // flag name -> where its value came from
}

// Validate is asked by kong before the parse; there is nothing to check yet.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve answers the value of a flag that the command line does not give.
func (s *sources) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name == "help" {
		return nil, nil
	}
	if value, ok := s.env(envName(flag.Name)); ok && value != "" {
		s.note(flag.Name, "environment variable "+envName(flag.Name))
		return value, nil
	}
	if flag.Name == "config" || !hasFlag(parent.Flags, "config") {
		return nil, nil
	}
	if err := s.readFile(ctx, parent.Flags); err != nil {
		return nil, err
	}
	value, ok := s.values[flag.Name]
	if !ok {
		return nil, nil
	}
	s.note(flag.Name, s.path)
	return value, nil
}

func (s *sources) note(flag, origin string) {
	if s.origin == nil {
		s.origin = make(map[string]string)
	}
	s.origin[flag] = origin
}

// explain adds to a parse error which source the value came from, and says in
// words that a value is missing.
func (s *sources) explain(err error) error {
	if flag, _, ok := strings.Cut(err.Error(), `: expected value`); ok && strings.HasSuffix(err.Error(), `(<EOL>)`) {
		return fmt.Errorf("%s: the value is missing", flag)
	}
	if s.err != nil && strings.HasSuffix(err.Error(), s.err.Error()) { // kong names the flag that it was looked for
		return fmt.Errorf("--config: %w", s.err)
	}
	for flag, origin := range s.origin {
		if strings.HasPrefix(err.Error(), "--"+flag+":") || strings.HasPrefix(err.Error(), "--"+flag+" ") || strings.HasPrefix(err.Error(), "--"+flag+"=") {
			return fmt.Errorf("%w (from %s)", err, origin)
		}
	}
	return err
}

func hasFlag(flags []*kong.Flag, name string) bool {
	for _, f := range flags {
		if f.Name == name {
			return true
		}
	}
	return false
}

// readFile reads the file that --config or TRUNKLINE_CONFIG names, once.
func (s *sources) readFile(ctx *kong.Context, flags []*kong.Flag) error {
	if s.read {
		return s.err
	}
	s.read = true
	s.path, _ = s.env(envName("config"))
	for _, p := range ctx.Path {
		if p.Flag != nil && p.Flag.Name == "config" {
			s.path, _ = ctx.FlagValue(p.Flag).(string)
		}
	}
	if s.path == "" {
		return nil
	}
	var known []string
	for _, f := range flags {
		if f.Name != "help" && f.Name != "config" {
			known = append(known, f.Name)
		}
	}
	f, err := os.Open(s.path)
	if err != nil {
		s.err = err
		return s.err
	}
	defer func() { _ = f.Close() }()
	if s.values, s.err = parseConfig(f, known); s.err != nil {
		s.err = fmt.Errorf("%s: %w", s.path, s.err)
	}
	return s.err
}

// parseConfig reads a YAML file whose keys are flags' names and whose values are
// scalars or lists of scalars. Every other shape, a key given twice and a key
// that is not known are errors with the line.
func parseConfig(r io.Reader, known []string) (map[string]string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("more than %d bytes: this is no configuration file", maxConfigBytes)
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second YAML document follows: keep one")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want lines of the form `flag-name: value`", root.Line)
	}
	values := make(map[string]string, len(root.Content)/2)
	for i := 0; i < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		if !isOneOf(key.Value, known) {
			return nil, fmt.Errorf("line %d: unknown key %q: did you mean %q?", key.Line, clip(key.Value), nearest(key.Value, known))
		}
		if _, twice := values[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %s is given a second time", key.Line, key.Value)
		}
		if values[key.Value], err = scalars(node); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", node.Line, key.Value, err)
		}
	}
	return values, nil
}

// scalars answers a scalar as it is written, a list with commas between.
func scalars(node *yaml.Node) (string, error) {
	if node.Kind == yaml.ScalarNode {
		if node.Tag == "!!null" {
			return "", errors.New("the value is missing: write one or leave the key out")
		}
		return node.Value, nil
	}
	if node.Kind != yaml.SequenceNode {
		return "", errors.New("want a value or a list of values")
	}
	var list []string
	for _, item := range node.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || strings.Contains(item.Value, ",") {
			return "", errors.New("want a list of plain values, without commas in them")
		}
		list = append(list, item.Value)
	}
	return strings.Join(list, ","), nil
}

func isOneOf(name string, known []string) bool {
	for _, k := range known {
		if k == name {
			return true
		}
	}
	return false
}

// clip keeps what a stranger wrote from filling the screen.
func clip(text string) string {
	if len(text) > 64 {
		return text[:64] + "..."
	}
	return text
}

// nearest answers the known name with the fewest edits to name.
func nearest(name string, known []string) string {
	name = strings.ToLower(strings.ReplaceAll(clip(name), "_", "-"))
	best, edits := "", int(^uint(0)>>1)
	for _, k := range known {
		if d := distance(name, k); d < edits {
			best, edits = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
