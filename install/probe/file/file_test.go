package file

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
)

func TestDigest(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	for name, c := range map[string]struct {
		with map[string]any
		code string
	}{
		"right":     {map[string]any{"path": path, "sha256": sum}, ""},
		"prefixed":  {map[string]any{"path": path, "sha256": "sha256:" + strings.ToUpper(sum), "size": int64(5)}, ""},
		"differs":   {map[string]any{"path": path, "sha256": strings.Repeat("0", 64)}, "FILE-02"},
		"size":      {map[string]any{"path": path, "sha256": sum, "size": int64(6)}, "FILE-02"},
		"missing":   {map[string]any{"path": path + "x", "sha256": sum}, "FILE-01"},
		"directory": {map[string]any{"path": dir, "sha256": sum}, "FILE-01"},
	} {
		res, err := Probe{}.Run(t.Context(), install.Input{With: c.with})
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.code == "" && (len(res.Findings) != 0 || res.Outputs["file.sha256"] != sum):
			t.Errorf("%s: %+v", name, res)
		case c.code != "" && (len(res.Findings) != 1 || res.Findings[0].Code != c.code):
			t.Errorf("%s: %+v, want %s", name, res.Findings, c.code)
		}
	}
	for _, with := range []map[string]any{{"path": path}, {"path": path, "sha256": "x"}, {"sha256": sum}} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Probe{}).Run(ctx, install.Input{With: map[string]any{"path": path, "sha256": sum}}); err == nil {
		t.Error("a cancelled context is ignored")
	}
}
