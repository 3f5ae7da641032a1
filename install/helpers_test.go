package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// patch edits run.json as a later command, or an attacker, would.
func patch(t *testing.T, dir string, edit func(*snapshot)) {
	t.Helper()
	name := filepath.Join(dir, fileRun)
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var snap snapshot
	if err := json.Unmarshal(raw, &snap); err != nil {
		t.Fatal(err)
	}
	edit(&snap)
	if raw, err = json.Marshal(snap); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
