package gate

import (
	"bufio"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// root is the module, seen from this folder.
const root = "../.."

// floors are percentages of statements that the tests of a folder, and of what is below it, have to reach.
var floors = map[string]float64{"wire": 90, "placement": 90, "auth": 90}

func TestStatementsAreCovered(t *testing.T) {
	dir := left(t, "TRUNKLINE_COVER", "make cover")
	for folder, floor := range floors {
		covered, all := statements(t, filepath.Join(dir, "cover-"+folder+".out"))
		if all == 0 {
			t.Errorf("the profile of %s is empty", folder)
			continue
		}
		percent := 100 * float64(covered) / float64(all)
		t.Logf("%s: %.1f %% of %d statements", folder, percent, all)
		if percent < floor {
			t.Errorf("the tests of %s reach %.1f %% of its statements, the floor is %.0f %%", folder, percent, floor)
		}
	}
}

// statements sums up a profile. With -coverpkg each test binary reports every block, so a block counts once.
func statements(t *testing.T, profile string) (covered, all int) {
	t.Helper()
	f, err := os.Open(profile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type block struct {
		statements int
		hit        bool
	}
	blocks := map[string]block{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			continue // the mode
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatalf("%s: %v", profile, err)
		}
		blocks[fields[0]] = block{n, blocks[fields[0]].hit || fields[2] != "0"}
	}
	for _, b := range blocks {
		all += b.statements
		if b.hit {
			covered += b.statements
		}
	}
	return covered, all
}

// Secrets that must not be in any log of the suite: what tests planted, and whatever has the look of a token or a key.
// The last is a line of a key file.
var secrets = regexp.MustCompile(`canary-(secret|payload|token)|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}|BEGIN [A-Z ]*PRIVATE KEY|[\w-]{43} primary`)

func TestNoLogShowsASecret(t *testing.T) {
	dir := left(t, "TRUNKLINE_LOGS", "make unit node compat compat-clustered cluster")
	files := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		number := 0
		for line := range strings.Lines(string(data)) {
			number++
			if found := secrets.FindString(line); found != "" {
				t.Errorf("%s:%d shows %.24s…", name, number, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Each suite leaves what it printed, and those that start processes what each process printed (cluster only where it may).
	for _, suite := range []string{
		"unit.log", "node.log", "node/*.log", "compat.log", "compat/*.log", "compat-clustered.log", "compat-clustered/*.log", "cluster.log",
	} {
		if found, _ := filepath.Glob(filepath.Join(dir, suite)); len(found) == 0 {
			t.Errorf("%s has no %s: nothing of it was checked", dir, suite)
		}
	}
	t.Logf("%d logs", files)
}

// The check above must be able to fail.
func TestSecretsAreRecognised(t *testing.T) {
	for _, line := range []string{
		"level=INFO msg=login token=eyJhbGciOiJFZERTQSJ9.eyJpZCI6ImFsaWNlIn0.c2lnbmF0dXJlc2lnbmF0dXJl",
		"register: canary-secret-ABCDEF",
		"-----BEGIN PRIVATE KEY-----",
		"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA primary",
	} {
		if !secrets.MatchString(line) {
			t.Errorf("not recognised: %s", line)
		}
	}
	if line := "level=INFO msg=registered app=4e738ca5 instance=7 secret=***"; secrets.MatchString(line) {
		t.Errorf("taken for a secret: %s", line)
	}
}

// Each rule of these documents names the tests that hold it, and they exist.
func TestGuaranteesNameTheirTests(t *testing.T) {
	tests := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz|Example|Benchmark)[A-Za-z0-9_]+)")
	for _, document := range []string{"docs/guarantees.md", "docs/security.md"} {
		text, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		rules := rulesOf(string(text))
		for _, rule := range rules {
			head, _, _ := strings.Cut(strings.TrimSpace(rule), "\n")
			names := named.FindAllStringSubmatch(rule, -1)
			if len(names) == 0 {
				t.Errorf("%s: no test is named by the rule %q", document, head)
			}
			for _, name := range names {
				if !tests[name[1]] {
					t.Errorf("%s: the rule %q names %s, which does not exist", document, head, name[1])
				}
			}
		}
		if len(rules) == 0 {
			t.Errorf("%s has no rule: lists and tables of it are read as rules", document)
		}
		t.Logf("%s: %d rules", document, len(rules))
	}
}

var (
	listItem = regexp.MustCompile(`^(?:[-*]|\d+\.) `)
	tableRow = regexp.MustCompile(`^\|.*\|\s*$`)
	tableBar = regexp.MustCompile(`^\|[-:| ]+\|\s*$`)
)

// rulesOf cuts the document into its rules: top-level list items and rows of tables. Sections whose heading begins with
// "What" or "Words" explain and hold none.
func rulesOf(text string) []string {
	var rules []string
	for _, section := range regexp.MustCompile(`(?m)^#+ `).Split(text, -1)[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		if strings.HasPrefix(heading, "What") || strings.HasPrefix(heading, "Words") {
			continue
		}
		rules = append(rules, itemsOf(body)...)
		rules = append(rules, rowsOf(body)...)
	}
	return rules
}

// itemsOf are the items of the lists, each up to an empty line, a table or the next item.
func itemsOf(body string) []string {
	var items []string
	in := false
	for line := range strings.Lines(body) {
		switch {
		case listItem.MatchString(line):
			items, in = append(items, line), true
		case strings.TrimSpace(line) == "" || tableRow.MatchString(line):
			in = false
		case in:
			items[len(items)-1] += line
		}
	}
	return items
}

func rowsOf(body string) []string {
	var rows []string
	lines := strings.Split(body, "\n")
	for i, line := range lines {
		head := i+1 < len(lines) && tableBar.MatchString(lines[i+1])
		if tableRow.MatchString(line) && !tableBar.MatchString(line) && !head {
			rows = append(rows, line)
		}
	}
	return rows
}

func TestRulesOfADocument(t *testing.T) {
	const text = "# Guarantees\n\nIntro - with a dash.\n\n## What this is\n- no rule\n\n## Order\n- **One.** Held by\n  `TestA`.\n- Two\n\n" +
		"| rule | test |\n|---|---|\n| three | `TestB` |\n"
	want := []string{"- **One.** Held by\n  `TestA`.\n", "- Two\n", "| three | `TestB` |"}
	if got := rulesOf(text); !slices.Equal(got, want) {
		t.Errorf("rulesOf gave %q", got)
	}
}

// testNames are the names of all tests, fuzz targets, benchmarks and examples of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	walk(t, func(name string) {
		for _, function := range declared(t, name) {
			names[function.Name.Name] = true
		}
	})
	return names
}

// declared are the functions of a test file, nothing for another file.
func declared(t *testing.T, name string) []*ast.FuncDecl {
	t.Helper()
	if !strings.HasSuffix(name, "_test.go") {
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var functions []*ast.FuncDecl
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
			functions = append(functions, f)
		}
	}
	return functions
}

// Every parser of strangers' bytes is fuzzed, in CI for seconds. Each target has something to start from, seeds of its own
// (f.Add) or files in testdata/fuzz, and all of them together leave CI its time.
func TestFuzzTargetsHaveACorpus(t *testing.T) {
	// Of the two and a half minutes that CI has for `make fuzz`, building the targets takes the rest.
	const most = 100 * time.Second
	targets := 0
	walk(t, func(name string) {
		for _, function := range declared(t, name) {
			target := function.Name.Name
			if !strings.HasPrefix(target, "Fuzz") {
				continue
			}
			targets++
			corpus, _ := filepath.Glob(filepath.Join(root, path.Dir(name), "testdata/fuzz", target, "*"))
			if len(corpus) == 0 && !adds(function) {
				t.Errorf("%s in %s has no seed and no corpus in testdata/fuzz", target, name)
			}
		}
	})
	each := fuzzTime(t)
	if all := time.Duration(targets) * each; all > most {
		t.Errorf("%d fuzz targets, %v each, take %v; CI has %v: merge targets or lower FUZZTIME in the Makefile", targets, each, all, most)
	}
	t.Logf("%d fuzz targets, %v each", targets, each)
}

// adds says whether a fuzz target adds seeds.
func adds(target *ast.FuncDecl) bool {
	found := false
	ast.Inspect(target.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.SelectorExpr); ok && call.Sel.Name == "Add" {
			if x, ok := call.X.(*ast.Ident); ok && x.Name == "f" {
				found = true
			}
		}
		return !found
	})
	return found
}

// fuzzTime is how long the Makefile fuzzes each target unless it is told otherwise.
func fuzzTime(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^FUZZTIME \?= (\S+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("the Makefile has no FUZZTIME")
	}
	each, err := time.ParseDuration(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return each
}

// The lock file has to work anywhere, so it names the public registry or none.
func TestLockFileNamesNoMirror(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "test/compat/node/package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version, Resolved, Integrity string }
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		t.Fatal(err)
	}
	for name, p := range lock.Packages {
		if name == "" {
			continue
		}
		if p.Resolved != "" && !strings.HasPrefix(p.Resolved, "https://registry.npmjs.org/") {
			t.Errorf("%s is resolved at %s", name, p.Resolved)
		}
		if p.Integrity == "" {
			t.Errorf("%s has no checksum", name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Documents link to files that exist.
func TestDocumentsLinkToWhatExists(t *testing.T) {
	walk(t, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(data), -1) {
			target, _, _ := strings.Cut(found[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, target)
			}
		}
	})
}

// walk calls visit with each file of the module, by its path from the root.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); name != "." && strings.HasPrefix(base, ".") || base == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		visit(name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// left is the folder that an earlier step left its results in.
func left(t *testing.T, variable, step string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir != "" {
		return dir
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not set: run `%s` first", variable, step)
	}
	t.Skipf("%s is not set: run `%s` first", variable, step)
	return ""
}
