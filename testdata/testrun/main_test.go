package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// module is a tree of packages, each ending another way.
var module = map[string]string{
	"go.mod":            "module example.test/m\n\ngo 1.26\n",
	"good/a_test.go":    "package good\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Run(\"x\", func(t *testing.T) {}); t.Run(\"y\", func(t *testing.T) {}) }\nfunc TestB(t *testing.T) {}\n",
	"skips/a_test.go":   "package skips\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Skip(\"needs a moon\") }\nfunc TestB(t *testing.T) {}\n",
	"fails/a_test.go":   "package fails\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Run(\"x\", func(t *testing.T) { t.Error(\"wrong colour\") }) }\nfunc TestB(t *testing.T) { t.Run(\"x\", func(t *testing.T) {}); t.Error(\"on its own\") }\n",
	"panics/a_test.go":  "package panics\nimport \"testing\"\nfunc TestA(t *testing.T) { panic(\"at the disco\") }\n",
	"broken/a_test.go":  "package broken\nimport \"testing\"\nfunc TestA(t *testing.T) { undefinedName() }\n",
	"exits/a_test.go":   "package exits\nimport (\"os\"; \"testing\")\nfunc TestMain(m *testing.M) { os.Exit(3) }\n",
	"untested/a.go":     "package untested\n",
	"nothing/a_test.go": "package nothing\n",
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, content := range module {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "-buildvcs=false")
	tests := []struct {
		name       string
		packages   []string
		last       string
		says       []string
		good, inCI bool
	}{
		{"all pass", []string{"./good", "./untested"}, "3 passed, 0 failed, 0 skipped", []string{"ok   example.test/m/good"}, true, true},
		{"a skip is shown and refused in CI", []string{"./skips"}, "1 passed, 0 failed, 1 skipped", []string{"skipped example.test/m/skips TestA: a_test.go:3: needs a moon"}, true, false},
		{"a failing subtest counts once", []string{"./fails"}, "1 passed, 2 failed, 0 skipped", []string{"wrong colour", "failed  example.test/m/fails TestA/x", "failed  example.test/m/fails TestB\n"}, false, false},
		{"panic", []string{"./panics", "./good"}, "3 passed, 1 failed, 0 skipped", []string{"at the disco"}, false, false},
		{"no build", []string{"./broken", "./good"}, "3 passed, 1 failed, 0 skipped", []string{"undefined: undefinedName", "failed  example.test/m/broken"}, false, false},
		{"no test reported", []string{"./exits"}, "0 passed, 1 failed, 0 skipped", []string{"exit status 3"}, false, false},
		{"no such package", []string{"./nowhere"}, "0 passed, 1 failed, 0 skipped", []string{"failed  ./nowhere", "directory not found"}, false, false},
		{"nothing ran", []string{"./untested", "./nothing"}, "0 passed, 0 failed, 0 skipped", nil, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s, err := run(t.Context(), tt.packages, &out)
			if err != nil {
				t.Fatal(err)
			}
			s.print(&out)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if got := lines[len(lines)-1]; got != tt.last {
				t.Errorf("last line %q, want %q", got, tt.last)
			}
			for _, want := range tt.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
			if s.good(false) != tt.good || s.good(true) != tt.inCI {
				t.Errorf("good: %v, in CI %v; want %v, %v", s.good(false), s.good(true), tt.good, tt.inCI)
			}
		})
	}
	t.Run("go test itself fails", func(t *testing.T) {
		if _, err := run(t.Context(), []string{"-count=x"}, &bytes.Buffer{}); err == nil {
			t.Error("no error for a flag that go test refuses")
		}
	})
}

func TestNeed(t *testing.T) {
	programs := []string{"skopeo", "zstd:zst", "tar"}
	var out bytes.Buffer
	if code := need(programs, func(string) (string, error) { return "/bin/x", nil }, &out); code != 0 || out.Len() != 0 {
		t.Errorf("all there: exit code %d, output %q", code, out.String())
	}
	code := need(programs, func(p string) (string, error) {
		if p == "tar" {
			return "/bin/tar", nil
		}
		return "", errors.New("not found")
	}, &out)
	want := "testrun: not in PATH: skopeo, zstd\napt-get install -y skopeo zst tar\n"
	if diff := cmp.Diff(want, out.String()); code != 1 || diff != "" {
		t.Errorf("two missing: exit code %d, output (-want +got):\n%s", code, diff)
	}
}
