package pg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/postgres"
)

// backups runs the probe and makes sure that nothing of the password is in what
// comes out.
func backups(t *testing.T, with map[string]any) install.Result {
	t.Helper()
	res, err := Backup{}.Run(t.Context(), install.Input{With: with})
	if err != nil {
		t.Fatal(err)
	}
	noSecret(t, res)
	return res
}

func TestArchive(t *testing.T) {
	for name, c := range map[string]struct {
		archiver []string
		reason   string // "" passes
	}{
		"young":         {[]string{"on", "000000010000000000000002", "60", ""}, ""},
		"failed before": {[]string{"always", "000000010000000000000002", "60.5", "7200"}, ""},
		"old":           {[]string{"on", "000000010000000000000002", "90000", ""}, "is 25h0m0s old"},
		"off":           {[]string{"off", "", "", ""}, "archive_mode of 127.0.0.1"},
		"none yet":      {[]string{"on", "", "", "5"}, "archived none yet"},
		"failing":       {[]string{"on", "000000010000000000000002", "3600", "5"}, "the last attempt that failed is 5s old"},
		"future":        {[]string{"on", "000000010000000000000002", "-90000", ""}, "in the future"},
		"not a number":  {[]string{"on", "x", "NaN", "Inf"}, "archived none yet"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &postgres.Fake{Password: secret, Database: postgres.Healthy(160004)}
			f.Database.Archiver = c.archiver
			res := backups(t, map[string]any{"url": address(f.Start(t), ""), "max_age": "24h", "archive": true, "code": "DR-01"})
			if c.reason == "" {
				if len(res.Findings) > 0 {
					t.Errorf("%+v", res.Findings)
				}
				return
			}
			if codes(res) != "DR-01:" || !strings.Contains(res.Findings[0].Fields["reason"], c.reason) {
				t.Errorf("%+v, want %q", res.Findings, c.reason)
			}
		})
	}
}

func TestBackupFiles(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	file := func(name string, age time.Duration, size int) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("good/2026/base.tar", 2*time.Hour, 10)
	file("good/2025/base.tar", 2000*time.Hour, 10)
	file("old/base.tar", 48*time.Hour, 10)
	file("old/empty.tar", time.Hour, 0)
	file("empty/nothing", time.Hour, 0)
	file("future/base.tar", -48*time.Hour, 10)
	single := file("single.dump", time.Hour, 10)
	if err := os.Symlink(single, filepath.Join(dir, "old", "link")); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{
		filepath.Join(dir, "good"):    "",
		single:                        "",
		filepath.Join(dir, "old"):     "base.tar, is 48h0m0s old",
		filepath.Join(dir, "empty"):   "no file with content",
		filepath.Join(dir, "future"):  "in the future",
		filepath.Join(dir, "missing"): "no such file",
		"":                            "no place to look",
	} {
		res := backups(t, map[string]any{"max_age": "24h", "path": path})
		if reason == "" {
			if len(res.Findings) > 0 {
				t.Errorf("%s: %+v", path, res.Findings)
			}
			continue
		}
		if codes(res) != "PG-20:" || !strings.Contains(res.Findings[0].Fields["reason"], reason) || res.Findings[0].Fields["max_age"] != "24h" {
			t.Errorf("%s: %+v, want %q", path, res.Findings, reason)
		}
	}
	// One sign is enough, and each place that has none is told.
	f := &postgres.Fake{Database: postgres.Healthy(160004)}
	url := address(f.Start(t), "")
	if res := backups(t, map[string]any{"max_age": "24h", "path": filepath.Join(dir, "old"), "url": url, "archive": true}); len(res.Findings) > 0 {
		t.Errorf("%+v", res.Findings)
	}
	f.Database.Archiver = []string{"off", "", "", ""}
	res := backups(t, map[string]any{"max_age": "24h", "path": filepath.Join(dir, "old"), "url": url, "archive": true})
	if r := fmt.Sprint(res.Findings); !strings.Contains(r, "base.tar") || !strings.Contains(r, "archive_mode") {
		t.Error(r)
	}
}

func TestBackupArguments(t *testing.T) {
	for _, with := range []map[string]any{{}, {"max_age": "soon"}, {"max_age": "1h", "timeout": "x"}, {"max_age": "1h", "where": "x"}} {
		if _, err := (Backup{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	for with, code := range map[string]string{"postgres://u:" + secret + "@h/x": "PG-09:", "postgres://u:" + escaped + "@127.0.0.1:1/x": "PG-01:"} {
		if res := backups(t, map[string]any{"url": with, "max_age": "1h", "archive": true}); codes(res) != code {
			t.Errorf("%+v", res.Findings)
		}
	}
}

func TestBackupContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &postgres.Fake{Database: postgres.Healthy(160004), Hang: "SELECT current_setting('archive_mode')", Hanging: cancel}
	with := map[string]any{"url": address(f.Start(t), ""), "max_age": "1h", "archive": true}
	if _, err := (Backup{}).Run(ctx, install.Input{With: with}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := (Backup{}).Run(ctx, install.Input{With: map[string]any{"path": t.TempDir(), "max_age": "1h"}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
