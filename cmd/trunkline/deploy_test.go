package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/trunkline-edge/trunkline/admin"
)

// repository is the root of the module, seen from this folder.
const repository = "../.."

type alertRule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "deploy/alerts/trunkline.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alertRule
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	var out []alertRule
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

// Each alarm has a page that begins with its name and shows its rule, and each page an alarm.
func TestEveryAlarmHasAPage(t *testing.T) {
	const folder = "docs/operations/alarms"
	index, err := os.ReadFile(filepath.Join(repository, folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	monitoring, err := os.ReadFile(filepath.Join(repository, "docs/operations/monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := []string{"README.md"}
	for _, r := range alertRules(t) {
		page := r.Annotations["runbook"]
		text, err := os.ReadFile(filepath.Join(repository, page))
		if err != nil || filepath.Dir(page) != folder {
			t.Errorf("%s: its runbook is %q: %v", r.Alert, page, err)
			continue
		}
		name := filepath.Base(page)
		pages = append(pages, name)
		severity := map[string]string{"critical": "\nCritical.", "warning": "\nA warning."}[r.Labels["severity"]]
		for _, want := range []string{"# " + r.Alert + "\n", severity, "\n" + r.Expr + "\n", "\n## Look\n", "\n## Do\n"} {
			if want == "" || !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q", page, want)
			}
		}
		if r.Annotations["summary"] == "" || !strings.Contains(string(index), "["+r.Alert+"]("+name+")") || !strings.Contains(string(monitoring), "["+r.Alert+"](alarms/"+name+")") {
			t.Errorf("%s has no summary, or is not in the lists of alarms", r.Alert)
		}
	}
	files, err := os.ReadDir(filepath.Join(repository, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(pages, f.Name()) {
			t.Errorf("%s/%s is no alarm's page", folder, f.Name())
		}
	}
}

// What the dashboard and the rules ask for is emitted somewhere, and has its sentence.
func TestDeployUsesMetricsThatExist(t *testing.T) {
	emitted := stringsOfTheProgram(t)
	metric := regexp.MustCompile(`\btrunkline_([a-z0-9_]+)`)
	used := make(map[string]bool)
	for _, r := range alertRules(t) {
		for _, m := range metric.FindAllStringSubmatch(r.Expr, -1) {
			used[m[1]] = true
		}
	}
	for _, expr := range dashboardQueries(t) {
		for _, m := range metric.FindAllStringSubmatch(expr, -1) {
			used[m[1]] = true
		}
	}
	if len(used) < 40 {
		t.Errorf("%d metrics are used only", len(used))
	}
	for name := range used {
		if name == "build_info" {
			continue
		}
		if !emitted[name] {
			t.Errorf("deploy uses %s, which nothing emits", name)
		}
		if !admin.HasHelp(name) {
			t.Errorf("%s has no sentence in admin/help.go", name)
		}
	}
}

func dashboardQueries(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "deploy/grafana/trunkline.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID        string `json:"uid"`
		Templating struct {
			List []struct {
				Query any `json:"query"`
			} `json:"list"`
		} `json:"templating"`
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Type    string `json:"type"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var out []string
	seen := make(map[int]bool)
	for _, p := range board.Panels {
		if seen[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %d %q repeats an id or shows nothing", p.ID, p.Title)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	return out
}

// stringsOfTheProgram are the string literals of all files but tests and the sentences of metrics.
func stringsOfTheProgram(t *testing.T) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && (base == "node_modules" || base == "test" || len(base) > 2 && base[0] == '.') {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "admin/help.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					out[text] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The unit and the image start the program with flags that it has.
func TestDeployedCommandsParse(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(repository, "deploy/systemd/trunkline.service"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(filepath.Join(repository, "deploy/Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "trunkline.yaml", "data-dir: /var/lib/trunkline\nkey-file: /var/lib/trunkline/cluster.key\n", 0o600)
	commands := regexp.MustCompile(`(?m)^Exec\w+=/usr/local/bin/trunkline (.*)$|^#\s+trunkline (serve .*)$`).FindAllStringSubmatch(string(unit)+string(image), -1)
	if len(commands) != 3 {
		t.Fatalf("%d commands in the unit and the image: %q", len(commands), commands)
	}
	for _, c := range commands {
		args := strings.Fields(strings.ReplaceAll(c[1]+c[2], "/etc/trunkline/trunkline.yaml", file))
		if _, _, err := parsed(t, newTheatre(""), args...); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, want := range []string{"CMD [\"/usr/local/bin/trunkline\", \"status\"]", "USER 65532", "VOLUME /var/lib/trunkline"} {
		if !strings.Contains(string(image), want) {
			t.Errorf("the image lacks %s", want)
		}
	}
}
