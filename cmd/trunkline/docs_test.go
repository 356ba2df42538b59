package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/trunkline-edge/trunkline/admin"
)

// part compares what stands between <!-- name --> and <!-- end of name --> in a
// page of docs with what the program says.
func part(t *testing.T, page, name, want string) {
	t.Helper()
	path := "../../docs/" + page
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	between := regexp.MustCompile(`(?s)(<!-- ` + name + ` -->\n).*(\n<!-- end of ` + name + ` -->)`)
	if !between.Match(text) {
		t.Fatalf("%s has no part %s", page, name)
	}
	next := between.ReplaceAllStringFunc(string(text), func(old string) string {
		m := between.FindStringSubmatch(old)
		return m[1] + want + m[2]
	})
	if next == string(text) {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(next), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the part %s of %s differs from the program: go test ./cmd/trunkline -run TestDocs -update writes it", name, page)
}

// code answers text for a cell of a table.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}

func flagsOf(t *testing.T, command string) []*kong.Flag {
	t.Helper()
	var g grammar
	parser, _, err := newParser(&g, &newTheatre("").world)
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range parser.Model.Children {
		if child.Name == command {
			return child.Flags
		}
	}
	t.Fatalf("no command %s", command)
	return nil
}

func TestDocsListEverySetting(t *testing.T) {
	dev := make(map[string]string)
	for _, f := range flagsOf(t, "dev") {
		dev[f.Name] = f.Default
	}
	var b strings.Builder
	group := ""
	for _, f := range flagsOf(t, "serve") {
		if f.Name == "help" {
			continue
		}
		if f.Group.Key != group {
			group = f.Group.Key
			fmt.Fprintf(&b, "\n### %s\n\n| flag | default in `serve` | in `dev` | |\n|---|---|---|---|\n", group)
		}
		help := f.Help
		if f.Enum != "" {
			help += " One of " + strings.ReplaceAll(f.Enum, ",", ", ") + "."
		}
		value := f.PlaceHolder
		if f.IsBool() {
			value = ""
		} else {
			value = " " + value
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code("--"+f.Name+value), code(f.Default), code(dev[f.Name]), strings.ReplaceAll(help, "|", `\|`))
	}
	part(t, "configuration.md", "settings", b.String())
}

func TestDocsListEveryMetric(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| metric | what |\n|---|---|\n")
	for _, m := range admin.MetricsReference() {
		fmt.Fprintf(&b, "| %s | %s |\n", code(m.Name), m.Text)
	}
	part(t, "operations/monitoring.md", "metrics", b.String())
}

func TestDocsListEveryCommand(t *testing.T) {
	var g grammar
	parser, _, err := newParser(&g, &newTheatre("").world)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n| command | what |\n|---|---|\n")
	for _, leaf := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "| %s | %s |\n", code(strings.TrimPrefix(leaf.FullPath(), "trunkline ")), leaf.Help)
	}
	part(t, "operations/commands.md", "commands", b.String())
}

// The example of a file in the page is one that a node takes.
func TestDocsExampleIsGood(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if example == nil {
		t.Fatal("no example")
	}
	g, _, err := parsed(t, newTheatre(""), "serve", "--config", write(t, "c.yaml", string(example[1]), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Serve.check(); err != nil {
		t.Error(err)
	}
	if err := g.Serve.checkServe(); err != nil {
		t.Error(err)
	}
}
