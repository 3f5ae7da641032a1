package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
)

// TestReadmeDocuments parses every document that the README shows.
func TestReadmeDocuments(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	parsers := map[string]func(string, []byte) error{
		"kind: Bundle": func(n string, b []byte) error { _, err := manifests.ParseDefinition(n, b); return err },
		"kind: Policy": func(n string, b []byte) error { _, err := manifests.ParsePolicy(n, b); return err },
		"kind: Site":   func(n string, b []byte) error { _, err := manifests.ParseSite(n, b); return err },
	}
	found := map[string]bool{}
	for i, part := range strings.Split(string(text), "```yaml\n")[1:] {
		doc, _, _ := strings.Cut(part, "```")
		for kind, parse := range parsers {
			if !strings.Contains(doc, kind+"\n") {
				continue
			}
			found[kind] = true
			if err := parse(fmt.Sprintf("README.md yaml block %d", i+1), []byte(doc)); err != nil {
				t.Error(err)
			}
		}
	}
	if len(found) != len(parsers) {
		t.Errorf("the README shows %v, want one document of each kind", found)
	}
}

// TestReadmeCommands holds the README's table of commands and exit codes
// against the program.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{}
	for _, c := range a.root().Commands() {
		for _, sub := range append(c.Commands(), c) {
			if sub.Name() == "help" || sub.HasSubCommands() && sub.Name() != "completion" {
				continue
			}
			if !strings.Contains(string(text), strings.TrimPrefix(sub.CommandPath(), "airlock ")) {
				t.Errorf("the README does not name %q", sub.CommandPath())
			}
		}
	}
	for _, code := range []int{exitDone, exitFailed, exitPartial, exitUsage, exitFormat, exitUntrusted, exitContent, exitIncomplete, exitItemFailed, exitWaiting, exitInterrupted} {
		if !strings.Contains(string(text), fmt.Sprintf("| %d |", code)) {
			t.Errorf("the README does not explain exit code %d", code)
		}
	}
}

// TestReferenceKinds holds the reference of checklist kinds against those that
// are registered, with every code and every field of its messages.
func TestReferenceKinds(t *testing.T) {
	text, err := os.ReadFile("../../manifests/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if kind, ok := strings.CutPrefix(line, "| `"); ok {
			kind, _, _ = strings.Cut(kind, "`")
			rows[kind] = line
		}
	}
	probes, actions := (&app{}).kinds(nil, nil, &manifests.Site{})
	coders := map[string]any{}
	for name, p := range probes {
		coders[name] = p
	}
	for name, a := range actions {
		coders[name] = a
	}
	for name, kind := range coders {
		row, ok := rows[name]
		if !ok {
			t.Errorf("the reference does not explain %s", name)
			continue
		}
		coder, ok := kind.(install.Coder)
		if !ok {
			t.Errorf("%s lists no codes", name)
			continue
		}
		for code, fields := range coder.Codes() {
			mine, all := row, row
			if strings.Contains(row, "those of the probe it runs") && !strings.HasPrefix(code, "CLU-") {
				continue // in rows of their own
			}
			if strings.Contains(row, "| access") || strings.Contains(row, "; access") {
				_, shared, _ := strings.Cut(string(text), "A **cluster** is")
				shared, _, _ = strings.Cut(shared, "\n\n")
				mine, all = mine+shared, all+shared
			}
			if strings.Contains(row, "those of any storage") {
				_, shared, _ := strings.Cut(string(text), "Any storage:")
				mine += shared
				all = mine + rows["blob.bucket"] + rows["blob.presign"]
			}
			if !strings.Contains(mine, code) {
				t.Errorf("the row of %s lacks %s", name, code)
			}
			for _, want := range fields {
				if !strings.Contains(all, want) {
					t.Errorf("the row of %s lacks %s of %s", name, want, code)
				}
			}
		}
	}
}
