//go:build all

package pg

import (
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/postgres"
)

// TestRealGrants grants on a real server what a new database lacks.
func TestRealGrants(t *testing.T) {
	c := postgres.Start(t)
	c.Exec(t, "postgres", `CREATE ROLE "a@b.iam" LOGIN PASSWORD 'secret'`, `CREATE DATABASE "it's"`)
	in := func(database string, statements ...any) install.Input {
		return install.Input{With: map[string]any{
			"url": c.URL(postgres.Superuser, postgres.SuperuserPassword, "postgres", "?sslmode=verify-full"), "ca": c.CA.Path, "database": database,
			"variables": map[string]any{"user": "a@b.iam", "db": "it's"}, "statements": statements,
		}}
	}
	inServer := in("",
		map[string]any{"run": `ALTER ROLE :"user" CREATEROLE`, "done": `SELECT rolcreaterole FROM pg_roles WHERE rolname = :'user'`},
		map[string]any{"run": `GRANT ALL PRIVILEGES ON DATABASE :"db" TO :"user"`, "done": `SELECT has_database_privilege(:'user', :'db', 'CREATE')`},
	)
	inDatabase := in("it's", map[string]any{"run": `GRANT ALL ON SCHEMA public TO :"user"`, "done": `SELECT has_schema_privilege(:'user', 'public', 'CREATE')`})
	for _, with := range []install.Input{inServer, inDatabase} {
		for _, changed := range []bool{true, false} {
			plan, err := Exec{}.Plan(t.Context(), with)
			if err != nil || plan.Nothing == changed {
				t.Errorf("%+v, %v", plan, err)
			}
			res, err := Exec{}.Apply(t.Context(), with)
			if err != nil || len(res.Findings) > 0 || res.Changed != changed {
				t.Errorf("%+v, %v", res, err)
			}
		}
	}
	got := c.Query(t, "it's", `SELECT rolcreaterole, has_database_privilege(rolname, current_database(), 'CREATE'), has_schema_privilege(rolname, 'public', 'CREATE') FROM pg_roles WHERE rolname = 'a@b.iam'`)
	if len(got) != 1 || got[0] != "t|t|t" {
		t.Errorf("the role may %v", got)
	}
	// A question that writes is refused, and so is a second statement in one.
	for _, s := range []map[string]any{
		{"run": "SELECT 1", "done": "DELETE FROM pg_roles RETURNING true"},
		{"run": "SELECT 1; DROP TABLE x", "done": "SELECT false"},
	} {
		res, err := Exec{}.Apply(t.Context(), in("it's", s))
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "PG-30" {
			t.Errorf("%v: %+v, %v", s, res, err)
		}
	}
}
