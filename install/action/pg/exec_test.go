package pg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/postgres"
	"github.com/google/go-cmp/cmp"
)

const password = `p@ss/w:o`

func grants(port string) map[string]any {
	return map[string]any{
		"url": "postgres://postgres:p%40ss%2Fw%3Ao@127.0.0.1:" + port + "/postgres", "timeout": "5s", "variables": map[string]any{"user": `o'"dd`},
		"statements": []any{map[string]any{"run": `ALTER ROLE :"user" CREATEROLE`, "done": `SELECT rolcreaterole FROM pg_roles WHERE rolname = :'user'`}},
	}
}

const (
	wantRun  = `ALTER ROLE "o'""dd" CREATEROLE`
	wantDone = `SELECT rolcreaterole FROM pg_roles WHERE rolname = 'o''"dd'`
)

// server is a fake whose guard becomes true when the statement ran.
func server(t *testing.T, effect bool) *postgres.Fake {
	f := &postgres.Fake{Password: password, Database: postgres.Healthy(150018)}
	f.Database.Guards = func() bool { return effect && slices.Contains(f.Statements(), wantRun) }
	f.Start(t)
	return f
}

func TestExec(t *testing.T) {
	f := server(t, true)
	in := install.Input{With: grants(f.Port)}
	plan, err := Exec{}.Plan(t.Context(), in)
	if err != nil || plan.Nothing || !slices.Equal(plan.Details, []string{wantRun}) || !strings.Contains(plan.Summary, "1 of 1 statements as postgres in database postgres") {
		t.Fatalf("%+v, %v", plan, err)
	}
	if slices.Contains(f.Statements(), wantRun) {
		t.Fatal("a plan changes something")
	}
	for i := range 2 {
		res, err := Exec{}.Apply(t.Context(), in)
		if err != nil || len(res.Findings) > 0 || res.Changed != (i == 0) {
			t.Fatalf("%d: %+v, %v", i, res, err)
		}
	}
	runs := slices.DeleteFunc(f.Statements(), func(s string) bool { return s != wantRun })
	asked := slices.Contains(f.Statements(), wantDone)
	if len(runs) != 1 || !asked {
		t.Errorf("ran %d times, asked %v: %q", len(runs), asked, f.Statements())
	}
	plan, err = Exec{}.Plan(t.Context(), in)
	if err != nil || !plan.Nothing || len(plan.Details) > 0 {
		t.Errorf("%+v, %v", plan, err)
	}
}

func TestExecFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*postgres.Fake)
		code   string
		reason string
	}{
		"no effect": {func(f *postgres.Fake) { f.Database.Guards = func() bool { return false } }, "PG-31", "still not true"},
		"denied":    {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"ALTER": {"42501", "permission denied"}} }, "PG-30", "permission denied"},
		"guard":     {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"SELECT": {"42P01", "no relation"}} }, "PG-30", "no relation"},
		"echo":      {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"ALTER": {"42501", "you are " + password}} }, "PG-30", "left out"},
		"password":  {func(f *postgres.Fake) { f.Password = "other" }, "PG-10", "password is wrong"},
		"cut":       {func(f *postgres.Fake) { f.Cut = "ALTER" }, "PG-01", "closed from the other side"},
		"no row":    {func(f *postgres.Fake) { f.Database.Guards = nil }, "PG-31", "still not true"},
	} {
		t.Run(name, func(t *testing.T) {
			f := server(t, true)
			c.change(f)
			res, err := Exec{}.Apply(t.Context(), install.Input{With: grants(f.Port)})
			if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != c.code || !strings.Contains(res.Findings[0].Fields["reason"], c.reason) {
				t.Fatalf("%+v, %v; want %s %q", res.Findings, err, c.code, c.reason)
			}
			if s := fmt.Sprint(res); strings.Contains(s, password) {
				t.Errorf("the password shows in %s", s)
			}
		})
	}
}

func TestPlanWithoutServer(t *testing.T) {
	plan, err := Exec{}.Plan(t.Context(), install.Input{With: grants("1")})
	if err != nil || plan.Nothing || !slices.Contains(plan.Details, wantRun) || strings.Contains(fmt.Sprint(plan), "p@ss") {
		t.Errorf("%+v, %v", plan, err)
	}
}

func TestExecContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := server(t, true)
	f.Hang, f.Hanging = "ALTER", cancel
	if _, err := (Exec{}).Apply(ctx, install.Input{With: grants(f.Port)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := (Exec{}).Plan(ctx, install.Input{With: grants(f.Port)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"a": `x"y`, "b": `it's :"a"`}
	for in, want := range map[string]string{
		`SELECT 1::text`:          `SELECT 1::text`,
		`SET :"a" = :'b'`:         `SET "x""y" = 'it''s :"a"'`,
		`:'b'::text`:              `'it''s :"a"'::text`,
		`'10:30' :"a":"a"`:        `'10:30' "x""y""x""y"`,
		`x::"char"`:               `x::"char"`,
		`SELECT now()::time; a :`: `SELECT now()::time; a :`,
	} {
		got, err := expand(in, vars)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", in, err, diff)
		}
	}
	for _, in := range []string{`:"c"`, `:"a`, `:'A'`, `:""`} {
		if got, err := expand(in, vars); err == nil {
			t.Errorf("%s is read as %s", in, got)
		}
	}
	if _, err := expand(`:"a"`, map[string]string{"a": ""}); err == nil {
		t.Error("an empty variable is accepted")
	}
}

func TestExecArguments(t *testing.T) {
	one := []any{map[string]any{"run": "a", "done": "b"}}
	for _, with := range []map[string]any{
		{"url": "postgres://u@h"},
		{"url": "postgres://u@h", "statements": one, "timeout": "x"},
		{"url": "postgres://u@h", "statements": []any{map[string]any{"run": "a"}}},
		{"url": "postgres://u@h", "statements": []any{map[string]any{"run": `:"x"`, "done": "b"}}},
		{"statements": one, "more": 1},
	} {
		if _, err := (Exec{}).Apply(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	res, err := Exec{}.Apply(t.Context(), install.Input{With: map[string]any{"url": "postgres://u:p@q@h", "statements": one}})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "PG-09" {
		t.Errorf("%+v, %v", res, err)
	}
}
