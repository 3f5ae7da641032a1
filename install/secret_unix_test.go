//go:build unix

package install

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSecretIsNoPipe: a pipe that nobody writes to would hold a run for ever.
func TestSecretIsNoPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SecretsFrom(dir)("file:pipe"); err == nil || !strings.Contains(err.Error(), "file:pipe") {
		t.Errorf("error %v", err)
	}
}
