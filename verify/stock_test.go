//go:build all

package verify_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/testdata/fixture"
)

// TestStockTar: stock tar and zstd read the file, and what they unpack is the bundle.
func TestStockTar(t *testing.T) {
	spool := fixture.Spool(t)
	path, pub := fixture.File(t, spool, image(t, spool, "example.com/a:1", 1, 3<<20, 9<<20, 0, 1, 512))
	if out, err := exec.Command("zstd", "-t", "-M4MB", path).CombinedOutput(); err != nil {
		t.Errorf("zstd -t: %v %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "--zstd", "-xf", path, "-C", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v %s", err, out)
	}
	checkDirectory(t, dir, pub)
}
