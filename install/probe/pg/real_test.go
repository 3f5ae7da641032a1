//go:build all

package pg

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/testdata/postgres"
	"github.com/google/go-cmp/cmp"
)

// TestRealServer runs the probes against a PostgreSQL with TLS and roles of
// several rights.
func TestRealServer(t *testing.T) {
	c := postgres.Start(t, "wal_level = replica", "archive_mode = on", "archive_command = 'true'")
	password := strings.ReplaceAll(secret, "'", "''")
	c.Exec(t, "postgres",
		fmt.Sprintf(`CREATE ROLE spacelift LOGIN CREATEROLE PASSWORD '%s'`, password),
		fmt.Sprintf(`CREATE ROLE noroles LOGIN PASSWORD '%s'`, password),
		fmt.Sprintf(`CREATE ROLE "o""dd" LOGIN CREATEROLE PASSWORD '%s'`, password),
		fmt.Sprintf(`CREATE ROLE plain LOGIN CREATEROLE PASSWORD '%s'`, password),
		`CREATE DATABASE spacelift OWNER spacelift`, `CREATE DATABASE noroles OWNER noroles`, `CREATE DATABASE "it's ""odd"""`, `CREATE DATABASE used OWNER spacelift`,
		`CREATE DATABASE closed`, `REVOKE CONNECT ON DATABASE closed FROM PUBLIC`,
	)
	c.Exec(t, "used", "CREATE SCHEMA crm", "CREATE TABLE crm.customers (id integer)", "CREATE TABLE queue (id integer)", "CREATE TABLE dedup (id integer)", "CREATE VIEW views AS SELECT 1 AS a")
	whole := func() []string {
		return append(c.Query(t, "spacelift", "SELECT rolname FROM pg_roles WHERE rolname ~ '^airlock'"), c.Query(t, "spacelift", "SELECT relname FROM pg_class WHERE relname ~ 'airlock' UNION ALL SELECT nspname FROM pg_namespace WHERE nspname ~ 'airlock'")...)
	}
	for name, s := range map[string]struct {
		role, db, options string
		ca                string
		want              string
		reason            string // of the first finding
	}{
		"good":       {"spacelift", "spacelift", "?sslmode=verify-full", c.CA.Path, "", ""},
		"pooler":     {"spacelift", "spacelift", "?sslmode=verify-full&statement_cache_capacity=0", c.CA.Path, "", ""},
		"require":    {"spacelift", "spacelift", "?sslmode=require", "", "", ""},
		"without":    {"plain", "spacelift", "?sslmode=disable", "", "PG-04:fail PG-04:fail", ""},
		"refused":    {"spacelift", "spacelift", "?sslmode=disable", "", "PG-10:", "pg_hba.conf"},
		"unknown CA": {"spacelift", "spacelift", "?sslmode=verify-full", "", "PG-08:", "CN=database authority"},
		"no roles":   {"noroles", "noroles", "?sslmode=verify-full", c.CA.Path, "PG-05:fail", "rolcreaterole"},
		"no create":  {`o"dd`, `it's "odd"`, "?sslmode=verify-full", c.CA.Path, "PG-04:fail PG-04:fail", "no privilege"},
		"used":       {"spacelift", "used", "?sslmode=verify-full", c.CA.Path, "PG-06:warn", ""},
		"no db":      {"spacelift", "missing", "?sslmode=verify-full", c.CA.Path, "PG-10:", "does not exist"},
		"closed":     {"spacelift", "closed", "?sslmode=verify-full", c.CA.Path, "PG-10:", "permission denied"},
		"option":     {"spacelift", "spacelift", "?sslmode=verify-full&nonsense=1", c.CA.Path, "PG-09:", "unrecognized configuration parameter"},
		"read-only":  {"spacelift", "spacelift", "?sslmode=verify-full&default_transaction_read_only=on", c.CA.Path, "PG-07:fail", "default_transaction_read_only"},
	} {
		t.Run(name, func(t *testing.T) {
			res := examine(t, full(c.URL(s.role, secret, s.db, s.options), map[string]any{"ca": s.ca}))
			if codes(res) != s.want || s.want != "" && !strings.Contains(res.Findings[0].Fields["reason"], s.reason) {
				t.Errorf("%s, want %s %q: %+v", codes(res), s.want, s.reason, res.Findings)
			}
			if left := whole(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		res := examine(t, full(c.URL("spacelift", "hunter2", "spacelift", "?sslmode=require"), nil))
		if codes(res) != "PG-10:" || strings.Contains(fmt.Sprint(res), "hunter2") {
			t.Errorf("%+v", res)
		}
	})
	t.Run("grants of the finding help", func(t *testing.T) {
		url := c.URL(`o"dd`, secret, `it's "odd"`, "?sslmode=verify-full")
		for _, f := range examine(t, full(url, map[string]any{"ca": c.CA.Path})).Findings {
			c.Exec(t, `it's "odd"`, f.Fields["statement"])
		}
		if res := examine(t, full(url, map[string]any{"ca": c.CA.Path})); len(res.Findings) > 0 {
			t.Errorf("%+v", res.Findings)
		}
	})
	t.Run("facts", func(t *testing.T) {
		res := examine(t, full(c.URL("spacelift", secret, "spacelift", "?sslmode=verify-full"), map[string]any{"ca": c.CA.Path}))
		system := c.Query(t, "postgres", "SELECT system_identifier FROM pg_control_system()")[0]
		version := c.Query(t, "postgres", "SELECT current_setting('server_version_num')")[0]
		want := []string{version, "127.0.0.1:" + c.Port + "/spacelift#" + system, system}
		got := []string{fmt.Sprint(res.Outputs["db.server_version_num"]), fmt.Sprint(res.Outputs["db.fingerprint"]), fmt.Sprint(res.Outputs["db.system_identifier"])}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("outputs (-want +got):\n%s", diff)
		}
	})
	t.Run("backup", func(t *testing.T) { realBackup(t, c) })
	t.Run("standby", func(t *testing.T) {
		c.Standby(t)
		url := c.URL("spacelift", secret, "spacelift", "?sslmode=verify-full")
		if res := examine(t, full(url, map[string]any{"ca": c.CA.Path})); codes(res) != "PG-07:fail" {
			t.Errorf("%+v", res.Findings)
		}
		if res := examine(t, full(url, map[string]any{"ca": c.CA.Path, "primary": false})); len(res.Findings) > 0 {
			t.Errorf("%+v", res.Findings)
		}
	})
}

// realBackup looks at the archive of a real server and restores its database.
func realBackup(t *testing.T, c *postgres.Cluster) {
	url := c.URL("spacelift", secret, "used", "?sslmode=verify-full")
	with := map[string]any{"url": url, "ca": c.CA.Path, "max_age": "1h", "archive": true}
	c.Query(t, "postgres", "SELECT pg_switch_wal()")
	archived := false
	for range 600 { // the archiver is another process; each question takes a session
		if archived = c.Query(t, "postgres", "SELECT (archived_count > 0)::text FROM pg_stat_archiver")[0] == "true"; archived {
			break
		}
	}
	if res := backups(t, with); !archived || len(res.Findings) > 0 {
		t.Errorf("%v, %+v", archived, res.Findings)
	}
	with = map[string]any{"url": url, "ca": c.CA.Path, "smoke": true}
	refused := backups(t, with)
	if codes(refused) != "PG-21:" || !strings.Contains(refused.Findings[0].Fields["reason"], "permission denied to create database") {
		t.Errorf("%+v", refused.Findings)
	}
	c.Exec(t, "postgres", "ALTER ROLE spacelift CREATEDB")
	c.Exec(t, "used", "GRANT USAGE ON SCHEMA crm TO spacelift", "GRANT SELECT ON ALL TABLES IN SCHEMA crm TO spacelift")
	denied := backups(t, with)
	if codes(denied) != "PG-21:" || !strings.Contains(denied.Findings[0].Fields["reason"], "pg_dump fails") {
		t.Errorf("%+v", denied.Findings)
	}
	c.Exec(t, "used", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO spacelift")
	if res := backups(t, with); len(res.Findings) > 0 {
		t.Errorf("%+v", res.Findings)
	}
	if left := c.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '^airlock'"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	with["smoke_max"] = 1000
	if res := backups(t, with); codes(res) != "PG-21:" || !strings.Contains(res.Findings[0].Fields["reason"], "limited to 1000") {
		t.Errorf("%+v", res.Findings)
	}
	delete(with, "smoke_max")
	c.Exec(t, "postgres", "CREATE DATABASE airlock_restore_0123456789abcdef")
	if res := backups(t, with); codes(res) != "PG-21:" || !strings.Contains(res.Findings[0].Fields["reason"], "airlock_restore_0123456789abcdef") {
		t.Errorf("%+v", res.Findings)
	}
	c.Exec(t, "postgres", "DROP DATABASE airlock_restore_0123456789abcdef")
	noPrograms(t, with)
}

// noPrograms restores on a machine that has pg_dump alone, and then one whose
// pg_restore fails.
func noPrograms(t *testing.T, with map[string]any) {
	dump, err := exec.LookPath("pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	dir, path := t.TempDir(), os.Getenv("PATH")
	if err := os.Symlink(dump, filepath.Join(dir, "pg_dump")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if res := backups(t, with); codes(res) != "PG-21:" || !strings.Contains(res.Findings[0].Fields["reason"], "pg_restore is not in PATH") {
		t.Errorf("%+v", res.Findings)
	}
	if err := os.WriteFile(filepath.Join(dir, "pg_restore"), []byte("#!/bin/sh\necho \"no way, $PGPASSWORD\" >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+path)
	if res := backups(t, with); codes(res) != "PG-21:" || !strings.Contains(res.Findings[0].Fields["reason"], "pg_restore fails: left out") {
		t.Errorf("%+v", res.Findings)
	}
}
