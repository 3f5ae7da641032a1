package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

const head = "package p\nimport \"testing\"\n"

func TestFindAndRun(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.test/m\n\ngo 1.26\n")
	write(t, dir, "p/a_test.go", head+
		"func seeds(f *testing.F) { f.Add(\"x\") }\n"+
		"func FuzzAdds(f *testing.F) { f.Add(1); f.Fuzz(func(t *testing.T, n int) {}) }\n"+
		"func FuzzHelper(f *testing.F) { seeds(f); f.Fuzz(func(t *testing.T, s string) {}) }\n"+
		"func FuzzFiles(f *testing.F) { f.Fuzz(func(t *testing.T, s string) {}) }\n"+
		"func FuzzBare(f *testing.F) { f.Fuzz(func(t *testing.T, s string) {}) }\n"+
		"func TestNot(t *testing.T) {}\n")
	write(t, dir, "p/testdata/fuzz/FuzzFiles/one", "go test fuzz v1\nstring(\"a\")\n")
	write(t, dir, "bad/a_test.go", "package bad\nimport \"testing\"\nfunc FuzzFails(f *testing.F) { f.Add(1); f.Fuzz(func(t *testing.T, n int) { t.Error(\"always\") }) }\n")
	write(t, dir, "good/a_test.go", "package good\nimport \"testing\"\nfunc FuzzPasses(f *testing.F) { f.Add(1); f.Fuzz(func(t *testing.T, n int) {}) }\n")
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "-buildvcs=false")

	got, err := find(t.Context(), []string{"./p"})
	if err != nil {
		t.Fatal(err)
	}
	want := []target{
		{"example.test/m/p", "FuzzAdds", true},
		{"example.test/m/p", "FuzzHelper", true},
		{"example.test/m/p", "FuzzFiles", true},
		{"example.test/m/p", "FuzzBare", false},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		pattern string
		fails   bool
	}{{"./good", false}, {"./bad", true}, {".", true}} {
		if err := run(t.Context(), "20x", []string{tt.pattern}); (err != nil) != tt.fails {
			t.Errorf("fuzz %s: %v, want a failure: %v", tt.pattern, err, tt.fails)
		}
	}
}
