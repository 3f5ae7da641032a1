package manifests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMistakes shows the findings of documents full of mistakes: all of them,
// in order, where they are.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		file  string
		parse func(string, []byte) error
	}{
		{"mistakes.yaml", func(n string, b []byte) error { _, err := ParseDefinition(n, b); return err }},
		{"mistakes-site.yaml", func(n string, b []byte) error { _, err := ParseSite(n, b); return err }},
		{"mistakes-policy.yaml", func(n string, b []byte) error { _, err := ParsePolicy(n, b); return err }},
		{"mistakes-checklist.yaml", func(n string, b []byte) error { _, err := ParseChecklist(n, b); return err }},
		{"mistakes-lock.yaml", func(n string, b []byte) error { _, err := ParseLock(n, b); return err }},
		{"mistakes-relocation.json", func(n string, b []byte) error { _, err := ParseRelocationMap(n, b); return err }},
		// The excerpt of the documentation is whole but for what it leaves out.
		{"checklist-excerpt.yaml", func(n string, b []byte) error { _, err := ParseChecklist(n, b); return err }},
	} {
		t.Run(tt.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			findings, ok := errors.AsType[Findings](tt.parse(tt.file, data))
			if !ok || len(findings) == 0 {
				t.Fatal("no findings")
			}
			golden := filepath.Join("testdata", strings.TrimSuffix(tt.file, filepath.Ext(tt.file))+".golden")
			got := findings.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a secret is in the findings")
			}
		})
	}
}

// TestRefused are documents that are refused as a whole.
func TestRefused(t *testing.T) {
	head := "apiVersion: airlock/v1\nkind: Site\nname: a\nplatform: eks\nairgap: partial\n"
	for _, tt := range []struct{ name, doc, want string }{
		{"empty", "", "document is empty"},
		{"comment only", "# nothing\n", "document is empty"},
		{"scalar", "hello", "1:1: expected a mapping"},
		{"list", "- a\n", "1:1: expected a mapping"},
		{"too large", strings.Repeat("#", MaxWritten+1), "at most 1048576 are allowed"},
		{"not UTF-8", head + "state: \"\xff\"\n", "6:9: document is not UTF-8"},
		{"control character", head + "state: \"\x00\"\n", `6:9: control character '\x00'`},
		{"wrong kind", strings.Replace(head, "Site", "Policy", 1), `2:7: kind: got "Policy", want Site`},
		{"wrong apiVersion", strings.Replace(head, "/v1", "/v2", 1), `1:13: apiVersion: got "airlock/v2", want airlock/v1`},
		{"two documents", head + "---\n" + head, "6:1: a file holds one document"},
		{"many documents", head + strings.Repeat("--- a\n", 100000), "6:1: a file holds one document"},
		{"second document after an end mark", head + "...\nname: b\n", "7:1: a file holds one document"},
		{"syntax", head + "state: [a\n", "not YAML"},
		{"unclosed quote", head + "state: \"hunter2\n", "not YAML"},
		{"flow nesting", head + "inputs: {a: " + strings.Repeat("[", 100000) + "}\n", "nests deeper than 32 levels"},
		{"block nesting", head + "inputs:\n" + deep(100), "nests deeper than 32 levels"},
		{"sequence nesting", head + "inputs: \n " + strings.Repeat("- ", 100000) + "\n", "nests deeper than 32 levels"},
		{"complex key nesting", head + strings.Repeat("? ", 100000) + "\n", "nests deeper than 32 levels"},
		{"too many keys", head + "inputs:\n" + many(20000), "too many entries"},
		{"too many tokens", "lock\n" + strings.Repeat("#\n", 2<<20), "more lines, keys and list items"},
		{"alias", head + "state: &a x\nidentity: {name: *a, key: *a}\n", "7:18: identity.name: aliases are not allowed"},
		{"merge key", head + "registry: {<<: {to: x}}\n", "6:12: registry: merge keys are not allowed"},
		{"tag", head + "state: !!str x\n", "tags are not allowed"},
		{"number key", head + "inputs: {1: x}\n", "key must be a string"},
		{"list key", head + "inputs: {? [a] : x}\n", "site.yaml:6:16: not YAML"},
		{"octal", "apiVersion: airlock/v1\nkind: Bundle\nproduct: a\nversion: v1\nrelease: 010\n", "5:10: release: want a decimal number"},
		{"huge number", "apiVersion: airlock/v1\nkind: Bundle\nproduct: a\nversion: v1\nrelease: 99999999999999999999\n", "5:10: release: want a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			_, err := ParseSite("site.yaml", []byte(tt.doc))
			if strings.Contains(tt.doc, "Bundle") {
				_, err = ParseDefinition("site.yaml", []byte(tt.doc))
			}
			if strings.HasPrefix(tt.doc, "lock") {
				_, err = ParseLock("site.yaml", []byte(tt.doc))
			}
			findings, ok := errors.AsType[Findings](err)
			if !ok {
				t.Fatalf("error is %v, want findings", err)
			}
			if !strings.Contains(findings.Error(), tt.want) {
				t.Errorf("findings are\n%v\nwant one with %q", findings, tt.want)
			}
			if strings.Contains(findings.Error(), "hunter2") {
				t.Error("a secret is in the findings")
			}
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " k%d: v\n", i)
	}
	return b.String()
}

// TestFindingsBounded keeps a hostile document from filling a terminal.
func TestFindingsBounded(t *testing.T) {
	doc := "apiVersion: airlock/v1\nkind: Bundle\nproduct: a\nversion: v1\nrelease: 1\nimages:\n" + strings.Repeat("- {}\n", 5000)
	_, err := ParseDefinition("airlock.yaml", []byte(doc))
	findings, ok := errors.AsType[Findings](err)
	if !ok || len(findings) != maxFindings+1 {
		t.Fatalf("got %d findings, want %d", len(findings), maxFindings+1)
	}
	if last := findings[maxFindings].Message; !strings.HasPrefix(last, "and at least ") {
		t.Errorf("last finding is %q", last)
	}
}

// TestDecoded checks the values that come out, custom types first.
func TestDecoded(t *testing.T) {
	data, err := os.ReadFile("testdata/airlock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	def, err := ParseDefinition("airlock.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if def.Release != 12 || def.Checklist.Preset != "spacelift-self-hosted" || def.Providers.Platforms[0] != "linux_amd64" {
		t.Errorf("got %+v", def)
	}
	want := []Image{
		{Ref: "public.ecr.aws/spacelift/runner-terraform:latest"},
		{Ref: "docker.io/library/postgres:16", Platforms: Platforms{"all"}},
		{Path: "exported/tool.tar", As: "tool:1.2"},
	}
	if diff := cmp.Diff(want, def.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}

	site, err := ParseSite("site.yaml", []byte("apiVersion: airlock/v1\nkind: Site\nname: a\nplatform: eks\nairgap: partial\ninputs:\n  a.b: [1, two, true]\n  c: 1.5\n  d: -3\n  e: |\n    text\n  f: [{from: x, to: [y]}]\n  g: {h: {i: 1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]any{"a.b": []any{int64(1), "two", true}, "c": 1.5, "d": int64(-3), "e": "text\n", "f": []any{map[string]any{"from": "x", "to": []any{"y"}}}, "g": map[string]any{"h": map[string]any{"i": int64(1)}}}
	if diff := cmp.Diff(inputs, site.Inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
}

// TestDefinitionDigest: meaning counts, layout does not.
func TestDefinitionDigest(t *testing.T) {
	parse := func(s string) *Definition {
		t.Helper()
		def, err := ParseDefinition("airlock.yaml", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return def
	}
	base := "apiVersion: airlock/v1\nkind: Bundle\nproduct: a\nversion: v1\nrelease: 1\nimages: [{ref: \"x:1\", platforms: all}]\nchecklist: preset:p\n"
	first := parse(base).Digest()
	if want := "sha256:" + goldenDefinitionDigest; first != want {
		t.Errorf("digest is %s, want %s: locks made before would no longer fit", first, want)
	}
	same := "# comment\nkind: Bundle\napiVersion: 'airlock/v1'\nchecklist: \"preset:p\"\nrelease: 1\nproduct: a\nversion: v1\nimages:\n  - platforms: all\n    ref: x:1\ncharts: []\n"
	if got := parse(same).Digest(); got != first {
		t.Errorf("another layout has digest %s, want %s", got, first)
	}
	for _, change := range [][2]string{{"release: 1", "release: 2"}, {"x:1", "x:2"}, {"preset:p", "preset:q"}, {"checklist: preset:p", "checklist: {path: p}"}, {", platforms: all", ""}} {
		if got := parse(strings.Replace(base, change[0], change[1], 1)).Digest(); got == first {
			t.Errorf("digest is the same after %v", change)
		}
	}
}

// goldenDefinitionDigest pins the encoding that Digest hashes.
const goldenDefinitionDigest = "81fd615dc0096c9b2a75a764b5221b69cbaed4ca6ae305e329995f31b6cf5df7"

// TestPlatformsAll covers what Platforms.All promises.
func TestPlatformsAll(t *testing.T) {
	for _, tt := range []struct {
		p    Platforms
		want bool
	}{{nil, true}, {Platforms{"all"}, true}, {Platforms{"linux/amd64"}, false}, {Platforms{"all", "linux/amd64"}, false}} {
		if got := tt.p.All(); got != tt.want {
			t.Errorf("%v.All() = %v", tt.p, got)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"platforms", "product", "release", "images"}
	for key, want := range map[string]string{
		"platfroms": "platforms", "Images": "images", "image": "images", "relase": "release",
		"zzz": "", "": "", strings.Repeat("x", 10000): "",
	} {
		if got := nearest(key, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", key, got, want)
		}
	}
}
