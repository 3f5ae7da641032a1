package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/postgres"
)

// databaseSecret is a password with everything that is easily mangled.
const databaseSecret = `p@ss/w:or?d#%21"'`

const databaseEscaped = `p%40ss%2Fw%3Aor%3Fd%23%2521%22'`

// fakeDatabase starts a server and returns the backend's URL of it.
func fakeDatabase(t *testing.T, version int, change func(*postgres.Fake)) string {
	t.Helper()
	f := &postgres.Fake{Password: databaseSecret, Database: postgres.Healthy(version)}
	if change != nil {
		change(f)
	}
	return "postgres://spacelift:" + databaseEscaped + "@127.0.0.1:" + f.Start(t) + "/spacelift?statement_cache_capacity=0"
}

func TestRowDatabase(t *testing.T) {
	for _, r := range []struct {
		row
		major  int
		change func(*postgres.Fake)
		url    string
	}{
		{row: row{name: "14", want: install.StatePass}, major: 140011},
		{row: row{name: "17", want: install.StatePass}, major: 170002},
		{row: row{name: "13", want: install.StateFail, code: "PG-02", says: []string{"13.14", "14, 15, 16, 17", "upgrade"}}, major: 130014},
		{row: row{name: "18", want: install.StateWarn, code: "PG-03", says: []string{"18.1", "14, 15, 16, 17"}}, major: 180001},
		// What a version of the product supports is data of that version.
		{row: row{name: "17 below v4", version: "v3.0.0", want: install.StateWarn, code: "PG-03", says: []string{"17.2", "14, 15, 16"}}, major: 170002},
		{
			row:   row{name: "schema", want: install.StateFail, code: "PG-04", says: []string{`GRANT ALL ON SCHEMA "public" TO "spacelift"`, "connected to database spacelift"}},
			major: 160004, change: func(f *postgres.Fake) { f.Database.Schema = "false" },
		},
		{
			row:   row{name: "roles", want: install.StateFail, code: "PG-05", says: []string{`ALTER ROLE "spacelift" CREATEROLE`}},
			major: 160004, change: func(f *postgres.Fake) { f.Database.NoRoles = true },
		},
		{
			row:   row{name: "foreign", want: install.StateWarn, code: "PG-06", says: []string{"crm.customers", "a database of its own"}},
			major: 160004, change: func(f *postgres.Fake) { f.Database.Relations = [][]string{{"crm", "customers"}} },
		},
		{
			row:   row{name: "standby", want: install.StateFail, code: "PG-07", says: []string{"standby", "db.read_only_url"}},
			major: 160004, change: func(f *postgres.Fake) { f.Database.Standby = true },
		},
		{row: row{name: "no TLS", want: install.StateFail, code: "PG-08", says: []string{"127.0.0.1", "db.ca_file"}}, major: 160004, url: "&sslmode=verify-full"},
		{row: row{name: "reserved", want: install.StateFail, code: "PG-09", says: []string{"%2F", "percent-encode"}}, url: "postgres://spacelift:a/b@db/spacelift"},
		{row: row{name: "unreachable", want: install.StateFail, code: "PG-01", says: []string{"127.0.0.1:1", "refused", "nodes"}}, url: "postgres://u:" + databaseEscaped + "@127.0.0.1:1/x"},
		{
			row:   row{name: "password", want: install.StateFail, code: "PG-10", says: []string{"password is wrong", "spacelift", "pg_hba.conf"}},
			major: 160004, change: func(f *postgres.Fake) { f.Password = "other" },
		},
		{
			row:   row{name: "small", want: install.StateWarn, code: "PG-11", says: []string{"max_connections", "100", "200"}},
			major: 160004, change: func(f *postgres.Fake) { f.Database.MaxConnections = 100 },
		},
	} {
		r.item, r.inputs = "postgresql-database", map[string]any{"db.url": r.url}
		t.Run(r.name, func(t *testing.T) {
			if r.major != 0 {
				r.inputs["db.url"] = fakeDatabase(t, r.major, r.change) + r.url
			}
			runRow(t, r.row)
		})
	}
	t.Run("replica", func(t *testing.T) {
		r := row{item: "postgresql-database", want: install.StatePass, inputs: map[string]any{
			"db.url": fakeDatabase(t, 160004, nil), "db.read_only_url": fakeDatabase(t, 160004, func(f *postgres.Fake) { f.Database.Standby = true }),
		}}
		got := runRow(t, r)
		if fmt.Sprint(got.Outputs["db.server_version_num"]) != "160004" {
			t.Errorf("outputs: %v", got.Outputs)
		}
		r.inputs["db.read_only_url"] = fakeDatabase(t, 160004, func(f *postgres.Fake) { f.Database.System = "1" })
		r.want, r.code, r.says = install.StateFail, "PG-12", []string{"system identifier", "db.read_only_url"}
		runRow(t, r)
	})
	t.Run("rights come later on GKE", func(t *testing.T) {
		url := fakeDatabase(t, 160004, func(f *postgres.Fake) { f.Database.NoRoles = true })
		runRow(t, row{item: "postgresql-database", platform: "gke", want: install.StatePass, inputs: map[string]any{"db.url": url, "db.admin_url": url}})
		runRow(t, row{item: "postgresql-database", platform: "gke", want: install.StateFail, code: "PG-05", inputs: map[string]any{"db.url": url}})
	})
}

func TestRowGrants(t *testing.T) {
	granted := false
	url := fakeDatabase(t, 160004, func(f *postgres.Fake) {
		f.Database.Guards = func() bool { return granted }
	})
	r := row{item: "gke-database-grants", platform: "gke", inputs: map[string]any{"db.url": url, "db.admin_url": url, "db.user": "a@b.iam", "db.name": "spacelift"}}
	r.want, r.code, r.says = install.StateFail, "PG-31", []string{`ALTER USER "a@b.iam" CREATEROLE`, "spacelift"}
	runRow(t, r)
	granted = true
	r.want, r.code, r.says = install.StatePass, "", nil
	runRow(t, r)
	r.dryRun, r.want = true, install.StatePlanned
	runRow(t, r)
	r.dryRun = false
	r.inputs["db.admin_url"] = "postgres://postgres:long@pass@db/postgres"
	r.want, r.code, r.says = install.StateFail, "PG-09", []string{"percent-encode", "db.admin_url"}
	runRow(t, r)
	delete(r.inputs, "db.admin_url")
	r.want, r.code, r.says = install.StateSkipped, "", nil
	runRow(t, r)
}

func TestRowRecovery(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, age time.Duration) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	young, old := file("young.dump", time.Hour), file("old.dump", 100*time.Hour)
	for _, r := range []row{
		{name: "archive", want: install.StateWaiting},
		{name: "files", inputs: map[string]any{"dr.backup": "files", "dr.backup_path": young}, want: install.StateWaiting},
		{name: "managed", inputs: map[string]any{"dr.backup": "managed"}, want: install.StateWaiting},
		{name: "old", inputs: map[string]any{"dr.backup": "files", "dr.backup_path": old}, want: install.StateFail, code: "DR-01", says: []string{"100h0m0s old", "24h", "old.dump", "archive_command"}},
		{name: "states", inputs: map[string]any{"dr.versioned": []any{"modules", "run-logs", "policy-inputs"}}, want: install.StateFail, code: "DR-02", says: []string{"states", "dr.versioned"}},
		{name: "logs", inputs: map[string]any{"dr.versioned": []any{"modules", "states", "policy-inputs"}}, want: install.StateWaiting, code: "DR-02", says: []string{"run-logs"}},
		{name: "key", inputs: map[string]any{"dr.key_escrow": false}, want: install.StateFail, code: "DR-03", says: []string{"escrow-encryption-key", "dr.key_escrow"}},
		{name: "copy", inputs: map[string]any{"dr.ledger_copy": filepath.Join(dir, "missing")}, want: install.StateFail, code: "DR-05", says: []string{"missing", "dr.ledger_copy"}},
		{name: "no archive", inputs: map[string]any{"db.url": "postgres://u:" + databaseEscaped + "@127.0.0.1:1/x"}, want: install.StateFail, code: "PG-01", says: []string{"refused"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			inputs := map[string]any{
				"db.url": fakeDatabase(t, 160004, nil), "dr.versioned": []any{"states", "modules", "policy-inputs", "run-logs"}, "dr.key_escrow": true,
				"dr.bundle_copy": young, "dr.ledger_copy": old, "dr.drill_date": "2026-06-30", "dr.owner": "platform team",
			}
			maps.Copy(inputs, r.inputs)
			r.item, r.inputs = "disaster-recovery", inputs
			got := runRow(t, r)
			if r.want == install.StateWaiting && (!contains(got.Reason, "2026-06-30", "platform team", "(give dr.rpo)")) {
				t.Errorf("it asks: %s", got.Reason)
			}
		})
	}
}

func contains(s string, all ...string) bool {
	for _, part := range all {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}
