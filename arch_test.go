package trunkline_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/trunkline-edge/trunkline"

// A room is a folder of the module and the law for it and everything below it that has no room of its own.
type room struct {
	folder string
	// ours lists the folders of this module that it may import; "*" is any.
	ours []string
	// reason says why the list ends where it does; it is printed with a violation.
	reason string
}

// The import law. A folder that is not listed here, nor below one that is, fails the test: a new room gets its rule
// together with its first file.
var rooms = []room{
	{
		".", nil,
		"the root holds the law and nothing else",
	},
	{
		"wire", nil,
		"bytes to values and back: whatever it knew of the rest, every other package would know as well",
	},
	{
		"wire/hathora",
		[]string{"wire"},
		"the legacy codec is pure functions over the same ids and codes",
	},
	{
		"placement",
		[]string{"wire"},
		"the table and the choice must give the same result on every node, so they see ids and inputs only",
	},
	{
		"cluster",
		[]string{"cluster/consensus", "cluster/control", "cluster/gossip", "cluster/nodeport", "cluster/trust", "placement", "wire"},
		"agreement never sees a client's frame: control plane and data plane meet in the table alone",
	},
	{
		"cluster/trust", nil,
		"who is a node is decided from the cluster's key file and certificates alone",
	},
	{
		"cluster/nodeport",
		[]string{"cluster/trust"},
		"the port between nodes carries bytes for others and understands none of them",
	},
	{
		"cluster/control",
		[]string{"cluster/nodeport", "cluster/trust"},
		"calls between nodes carry bytes under a verb; what a verb means is its handler's business",
	},
	{
		"cluster/gossip",
		[]string{"cluster/nodeport", "cluster/trust", "wire"},
		"gossip is hints: it must not be able to change the table",
	},
	{
		"cluster/consensus",
		[]string{"placement", "wire"},
		"raft applies entries to the table; who proposes what, and over which connection, is handed in",
	},
	{
		"cluster/clustertest",
		[]string{"cluster", "cluster/nodeport", "cluster/trust", "placement", "wire"},
		"many nodes in one process, for tests",
	},
	{
		"pipe", nil,
		"batching socket I/O serves tunnels, clients and links alike, so it knows none of them",
	},
	{
		"tunnel",
		[]string{"pipe", "wire", "wire/hathora"},
		"backends import it through sdk: it has to stay light and must not bring the coordinator along",
	},
	{
		"edge",
		[]string{"auth", "edge/api", "edge/client", "edge/link", "pipe", "placement", "tunnel", "wire", "wire/hathora"},
		"it moves frames by what the table says; how the table is agreed on (cluster) is handed in by interface",
	},
	{
		"edge/api",
		[]string{"auth", "wire"},
		"HTTP in front of small interfaces; it never touches a tunnel or a session",
	},
	{
		"edge/client",
		[]string{"pipe", "wire", "wire/hathora"},
		"a client's pipe hands frames up and takes frames; only the router knows what comes next",
	},
	{
		"edge/link",
		[]string{"pipe", "wire"},
		"it is handed a listener and a way to dial, and so works without knowing the cluster",
	},
	{
		"auth", nil,
		"who may is decided from tokens and keys alone; app ids are texts to it",
	},
	{
		"auth/logins",
		[]string{"auth"},
		"it stores what auth calls an identity and nothing more",
	},
	{
		"admin",
		[]string{"wire"},
		"operators' port over interfaces of its own, so that it can show any node without being able to steer one",
	},
	{
		"sdk",
		[]string{"tunnel", "wire"},
		"the public packages: what they import, every backend in the field compiles",
	},
	{
		"sdk/examples",
		[]string{"sdk", "wire"},
		"an example shows what a user would write, and a user has the sdk",
	},
	{
		"cmd/trunkline",
		[]string{"*"},
		"assembly: the one place where all packages meet",
	},
	{
		"cmd/trunkline/certs",
		nil,
		"certificates and their files, known to the assembly alone",
	},
	{
		"cmd/trunkline/distances",
		nil,
		"a network with delays knows nothing of what it delays",
	},
	{
		"cmd/trunkline/child",
		nil,
		"starting and ending processes knows nothing of what they do",
	},
	{
		"cmd/trunkline/bench",
		[]string{"cluster", "cluster/trust", "cmd/trunkline/child", "pipe", "placement", "sdk", "wire", "wire/hathora"},
		"a program of its own that measures from outside, like any other client; its backend does I/O as the SDK does, and creates and the table, which have no port of their own, are measured in its processes",
	},
	{
		"cmd/trunkline/demo",
		[]string{"cmd/trunkline/child", "sdk", "wire"},
		"a program of its own on the public packages; the demo must not know more than a user does",
	},
	{
		"test",
		[]string{"*"},
		"whole nodes",
	},
}

// A guest is a module of somebody else, with the folders that may import it. Standard library aside, nothing else may
// be imported at all.
type guest struct {
	module  string
	folders []string
	reason  string
}

var guests = []guest{
	{"golang.org/x/sys", []string{"pipe", "edge", "cluster", "cmd/trunkline", "test"}, "system calls belong to the pipes, locks of files and the measuring of processes"},
	{"golang.org/x/sync", []string{"edge", "auth", "admin", "cluster", "cmd/trunkline", "test"}, "tunnel and sdk stay at the standard library and gobwas/ws"},
	{"golang.org/x/time", []string{"auth", "edge", "cmd/trunkline"}, "rates are limited where strangers connect and where issuers are asked for keys"},
	{"github.com/gobwas/ws", []string{"edge/client", "tunnel", "sdk", "cmd/trunkline/bench", "test"}, "WebSocket is spoken to clients, by sdk clients and by what measures them"},
	{"github.com/gobwas/httphead", []string{"edge/client"}, "part of gobwas/ws"},
	{"github.com/gobwas/pool", []string{"edge/client"}, "part of gobwas/ws"},
	{"github.com/coreos/go-oidc/v3", []string{"auth"}, "identity providers are checked in one place"},
	{"github.com/golang-jwt/jwt/v5", []string{"auth"}, "tokens are made and checked in one place"},
	{"go.etcd.io/bbolt", []string{"auth/logins"}, "the login store alone keeps records; the table is a journal"},
	{"github.com/prometheus/client_golang", []string{"admin", "cmd/trunkline"}, "packages keep plain counters"},
	{"github.com/alecthomas/kong", []string{"cmd/trunkline"}, "flags are parsed at assembly; packages get plain fields"},
	{"go.yaml.in/yaml/v3", []string{"cmd/trunkline"}, "configuration files are read at assembly"},
	{"github.com/hashicorp/raft", []string{"cluster"}, "agreement is one package's business"},
	{"github.com/hashicorp/memberlist", []string{"cluster"}, "membership likewise"},
	{"github.com/hashicorp/go-hclog", []string{"cluster"}, "what raft logs through; it ends in slog"},
	{"github.com/hashicorp/go-metrics", []string{"cluster"}, "what raft and memberlist count through; it is discarded"},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"cmd/trunkline/bench", "cmd/trunkline/demo"}, "percentiles are for what measures"},
}

// Guests of tests: any _test.go file may import them.
var testGuests = []string{"go.uber.org/goleak", "pgregory.net/rapid", "github.com/anishathalye/porcupine"}

// Parts of the standard library that a folder must do without.
var bans = []struct {
	folder, imports string
	reason          string
}{
	{"wire", `^(net|os|net/http|time|sync|context|math/rand.*|log.*)$`, "wire has no socket, no goroutine, no clock"},
	{"placement", `^(net|os|net/http|math/rand.*|crypto/rand|log.*)$`, "time and randomness are inputs of placement, files and sockets none of its business"},
	{"sdk", `^net/http$`, "the sdk stays light"},
	{"tunnel", `^net/http$`, "the sdk imports tunnel and stays light"},
}

// Calls that a folder must do without.
var bannedCalls = []struct {
	folder, call string
	reason       string
}{
	{"placement", "time.Now", "the table gives the same result on every node and at any time; clocks are inputs"},
	{"placement", "time.Since", "the table gives the same result on every node and at any time; clocks are inputs"},
}

// Lines of a file and of a function at which it has to be cut.
const (
	maxFile     = 600
	maxFunction = 80
)

var saysNothing = regexp.MustCompile(`^(utils?|helpers?|commons?|misc|managers?|pkg)$`)

// source is one parsed Go file of the module.
type source struct {
	name    string // path from the root
	folder  string
	test    bool
	lines   int
	file    *ast.File
	fset    *token.FileSet
	imports []string
}

func TestFoldersImportOnlyWhatTheirRoomAllows(t *testing.T) {
	for _, s := range sources(t) {
		law, ok := roomOf(s.folder)
		if !ok {
			t.Errorf("%s: the folder %s has no rule in arch_test.go: give it one, with its reason", s.name, s.folder)
			continue
		}
		for _, imported := range s.imports {
			folder, ours := strings.CutPrefix(imported, module+"/")
			if !ours || folder == s.folder {
				continue
			}
			if !slices.Contains(law.ours, "*") && !slices.Contains(law.ours, folder) && !testOf(s, folder) {
				t.Errorf("%s imports %s; %s may import only %v of ours: %s", s.name, folder, law.folder, law.ours, law.reason)
			}
		}
	}
}

func TestThirdPartiesStayWhereTheyBelong(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if strings.HasPrefix(imported, module) || !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				continue
			}
			if s.test && slices.ContainsFunc(testGuests, func(m string) bool { return within(imported, m) }) {
				continue
			}
			i := slices.IndexFunc(guests, func(g guest) bool { return within(imported, g.module) })
			if i < 0 {
				t.Errorf("%s imports %s, which no rule in arch_test.go admits", s.name, imported)
				continue
			}
			g := guests[i]
			if !slices.ContainsFunc(g.folders, func(f string) bool { return within(s.folder, f) }) {
				t.Errorf("%s imports %s, which belongs in %v: %s", s.name, imported, g.folders, g.reason)
			}
		}
	}
}

func TestPurePackagesStayPure(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, ban := range bans {
			pattern := regexp.MustCompile(ban.imports)
			for _, imported := range s.imports {
				if within(s.folder, ban.folder) && pattern.MatchString(imported) {
					t.Errorf("%s imports %s: %s", s.name, imported, ban.reason)
				}
			}
		}
		for _, ban := range bannedCalls {
			if !within(s.folder, ban.folder) {
				continue
			}
			ast.Inspect(s.file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name+"."+sel.Sel.Name == ban.call {
					t.Errorf("%s calls %s: %s", s.fset.Position(n.Pos()), ban.call, ban.reason)
				}
				return true
			})
		}
	}
}

// Wire keeps bytes and values: a goroutine in it would have no owner.
func TestWireStartsNoGoroutine(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !within(s.folder, "wire") && !within(s.folder, "placement") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a goroutine in %s", s.fset.Position(g.Pos()), s.folder)
			}
			return true
		})
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > maxFile {
			t.Errorf("%s has %d lines, past %d: cut it by what it does", s.name, s.lines, maxFile)
		}
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, past %d", s.fset.Position(f.Pos()), f.Name.Name, n, maxFunction)
			}
		}
	}
}

func TestNamesSaySomething(t *testing.T) {
	for _, s := range sources(t) {
		parts := strings.FieldsFunc(strings.TrimSuffix(s.name, ".go"), func(r rune) bool { return r == '/' || r == '_' })
		for _, part := range append(parts, s.file.Name.Name) {
			if saysNothing.MatchString(part) {
				t.Errorf("%s: %q says nothing about what is in it; a piece with one user lives under that user", s.name, part)
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		said[s.folder] = said[s.folder] || s.file.Doc != nil
	}
	for folder, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment: say its job, what it refuses and who owns its goroutines", folder)
		}
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: func init; constructors are called by who needs them", s.fset.Position(f.Pos()))
			}
		}
	}
}

// A rule without a reason is one that nobody can weigh.
func TestEveryRuleHasAReason(t *testing.T) {
	for _, r := range rooms {
		if r.reason == "" {
			t.Errorf("the rule of %s has no reason", r.folder)
		}
	}
	for _, g := range guests {
		if g.reason == "" {
			t.Errorf("the rule of %s has no reason", g.module)
		}
	}
}

// roomOf returns the law of the nearest folder that has one.
func roomOf(folder string) (room, bool) {
	for {
		if i := slices.IndexFunc(rooms, func(r room) bool { return r.folder == folder }); i >= 0 {
			return rooms[i], true
		}
		parent := path.Dir(folder)
		if parent == "." || parent == folder {
			return room{}, false
		}
		folder = parent
	}
}

// testOf says whether a test file imports the very package that it tests, or one below it, or the network in memory that
// the parts of the cluster are tested on.
func testOf(s source, folder string) bool {
	rig := folder == "cluster/clustertest" && within(s.folder, "cluster")
	return s.test && (within(folder, s.folder) || rig)
}

func within(name, root string) bool { return name == root || strings.HasPrefix(name, root+"/") }

func sources(t *testing.T) []source {
	t.Helper()
	found, err := parsed()
	if err != nil {
		t.Fatalf("read the sources: %v", err)
	}
	if len(found) == 0 {
		t.Fatal("no sources found: the law would hold of nothing")
	}
	return found
}

// parsed is every Go file of the module.
var parsed = sync.OnceValues(func() ([]source, error) {
	var found []source
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			hidden := name != "." && strings.HasPrefix(base, ".")
			if hidden || base == "node_modules" || base == "testdata" || base == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		s := source{name: name, folder: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
		if s.file, err = parser.ParseFile(s.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		s.lines = s.fset.File(s.file.Pos()).LineCount()
		for _, spec := range s.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		found = append(found, s)
		return nil
	})
	slices.SortFunc(found, func(a, b source) int { return cmp.Compare(a.name, b.name) })
	return found, err
})
