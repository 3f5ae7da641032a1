package place

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if _, _, err := Read(dir, "a/b.key", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading nothing: %v", err)
	}
	full, err := New(dir, "a/b.key", []byte("one"), 0o600)
	if err != nil || full != filepath.Join(dir, "a", "b.key") {
		t.Fatalf("%s, %v", full, err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Dir(full): 0o700, full: 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v: %v", path, fi.Mode(), want, err)
		}
	}
	if _, err := New(dir, "a/b.key", []byte("two"), 0o600); !errors.Is(err, ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	if data, _, err := Read(dir, "a/b.key", 10); err != nil || string(data) != "one" {
		t.Errorf("%q, %v", data, err)
	}
	if _, _, err := Read(dir, "a/b.key", 2); err == nil {
		t.Error("more than the limit is read")
	}
	// What a process that died left is no obstacle.
	if err := os.WriteFile(filepath.Join(dir, "a", ".b.key.partial"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Set(dir, "a/b.key", []byte("two"), 0o640); err != nil || !Same(dir, "a/b.key", []byte("two"), 0o640) {
		t.Errorf("not replaced: %v", err)
	}
	if Same(dir, "a/b.key", []byte("two"), 0o600) || Same(dir, "a/b.key", []byte("three"), 0o640) {
		t.Error("another mode or content is the same")
	}
	if left, err := os.ReadDir(filepath.Join(dir, "a")); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	// A link leads nowhere outside.
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir, "link/x", []byte("x"), 0o600); err == nil {
		t.Error("a file was written through a link")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
	if _, err := New("", "x", nil, 0o600); err == nil {
		t.Error("no directory is accepted")
	}
}

func TestPath(t *testing.T) {
	for _, name := range []string{"", "/a", "a/", "../a", "a/../b", ".a", "a b", "-a", "a\x00", "a//b"} {
		if Path(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	for _, name := range []string{"a", "a/b.txt", "pool-main.key", "A_1/b-2"} {
		if err := Path(name); err != nil {
			t.Error(err)
		}
	}
}
