package place

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for i, want := range []bool{true, false} {
		if changed, err := File(dir, "x", []byte("one")); err != nil || changed != want {
			t.Errorf("write %d: %v, %v", i, changed, err)
		}
	}
	if changed, err := File(dir, "x", []byte("two")); err != nil || !changed || !Holds(filepath.Join(dir, "x"), []byte("two")) {
		t.Errorf("another content: %v, %v", changed, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// TestLinks shows that a link is replaced and never written through.
func TestLinks(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "x.partial"} {
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := File(dir, "x", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if !Holds(victim, []byte("keep")) || !Holds(filepath.Join(dir, "x"), []byte("new")) {
		t.Error("the link was written through")
	}
}

func TestName(t *testing.T) {
	if err := Name("dns.zone"); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", ".", "..", ".x", "a/b", "a b", "a\x00"} {
		if Name(s) == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}
