//go:build all

package main

import (
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/postgres"
)

// TestRowsRealDatabase runs the rows about PostgreSQL against a real server.
func TestRowsRealDatabase(t *testing.T) {
	c := postgres.Start(t, "archive_mode = on", "archive_command = 'true'")
	secret := strings.ReplaceAll(databaseSecret, "'", "''")
	c.Exec(t, "postgres", "CREATE ROLE spacelift LOGIN CREATEROLE CREATEDB PASSWORD '"+secret+"'", "CREATE ROLE later LOGIN PASSWORD '"+secret+"'",
		"CREATE DATABASE spacelift OWNER spacelift", "CREATE DATABASE later")
	url := func(role string) string {
		return c.URL(role, databaseSecret, role, "?sslmode=verify-full&statement_cache_capacity=0")
	}
	inputs := func(role string) map[string]any { return map[string]any{"db.url": url(role), "db.ca_file": c.CA.Path} }
	runRow(t, row{item: "postgresql-database", inputs: inputs("spacelift"), want: install.StatePass})
	runRow(t, row{item: "postgresql-database", inputs: inputs("later"), want: install.StateFail, code: "PG-04", says: []string{`GRANT CREATE ON DATABASE "later"`}})
	runRow(t, row{item: "postgresql-database", inputs: inputs("later"), want: install.StateFail, code: "PG-05", says: []string{`"later"`}})
	runRow(t, row{item: "postgresql-database", inputs: map[string]any{"db.url": url("spacelift")}, want: install.StateFail, code: "PG-08", says: []string{"database authority", "db.ca_file"}})

	grants := row{item: "gke-database-grants", platform: "gke", inputs: inputs("later"), want: install.StatePass}
	grants.inputs["db.admin_url"] = c.URL(postgres.Superuser, postgres.SuperuserPassword, "postgres", "?sslmode=verify-full")
	grants.inputs["db.user"], grants.inputs["db.name"] = "later", "later"
	runRow(t, grants)
	runRow(t, grants)
	runRow(t, row{item: "postgresql-database", inputs: inputs("later"), want: install.StatePass})
	grants.inputs["db.user"] = "nobody"
	grants.want, grants.code, grants.says = install.StateFail, "PG-30", []string{`"nobody"`, "does not exist"}
	runRow(t, grants)
	grants.inputs["db.admin_url"], grants.inputs["db.user"] = url("spacelift"), "spacelift"
	grants.code, grants.says = "PG-31", []string{"had no effect", `no privileges were granted for "later"`}
	runRow(t, grants)

	c.Query(t, "postgres", "SELECT pg_switch_wal()")
	recovery := row{item: "disaster-recovery", inputs: inputs("spacelift"), want: install.StateWaiting}
	recovery.inputs["dr.versioned"], recovery.inputs["dr.key_escrow"], recovery.inputs["dr.trial_restore"] = []any{"states"}, true, true
	recovery.inputs["dr.backup"] = "managed"
	runRow(t, recovery)
	c.Exec(t, "postgres", "ALTER ROLE spacelift NOCREATEDB")
	recovery.want, recovery.code, recovery.says = install.StateFail, "PG-21", []string{"permission denied to create database", "dr.trial_restore"}
	runRow(t, recovery)
	if left := c.Query(t, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '^airlock'"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
