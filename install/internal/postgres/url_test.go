package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for raw, want := range map[string]struct {
		hosts, user, password, db, mode string
		params                          map[string]string
	}{
		"postgres://u:p@db.site:6432/spacelift":                      {"db.site:6432", "u", "p", "spacelift", "prefer", nil},
		"postgresql://u@db/x":                                        {"db:5432", "u", "", "x", "prefer", nil},
		"postgres://u:p@db":                                          {"db:5432", "u", "p", "u", "prefer", nil},
		"postgres://a%40b.iam@127.0.0.1/x":                           {"127.0.0.1:5432", "a@b.iam", "", "x", "prefer", nil},
		"postgres://u:a%2Fb%3Fc%23d%40e%25f%3A@db/x":                 {"db:5432", "u", "a/b?c#d@e%f:", "x", "prefer", nil},
		"postgres://u:a:b+c!$&'()*,;=@db/x":                          {"db:5432", "u", "a:b+c!$&'()*,;=", "x", "prefer", nil},
		"postgres://u:p@[::1]:1/x?sslmode=verify-full":               {"[::1]:1", "u", "p", "x", "verify-full", nil},
		"postgres://u:p@[::1]/x":                                     {"[::1]:5432", "u", "p", "x", "prefer", nil},
		"postgres://u:p@a,b:5433/x?target_session_attrs=primary":     {"a:5432 b:5433", "u", "p", "x", "prefer", nil},
		"postgres://u:p@h/x?ssl=true":                                {"h:5432", "u", "p", "x", "require", nil},
		"postgres://u:p@h/x?statement_cache_capacity=0":              {"h:5432", "u", "p", "x", "prefer", nil},
		"postgres://u:p@h/x?pool_max_conns=5&binary_parameters=yes":  {"h:5432", "u", "p", "x", "prefer", nil},
		"postgres://u:p@h/x?search_path=a&default_query_exec_mode=e": {"h:5432", "u", "p", "x", "prefer", map[string]string{"search_path": "a"}},
		"postgres://h/?user=u&password=a%26b&dbname=x":               {"h:5432", "u", "a&b", "x", "prefer", nil},
		"postgres://u:p@/x?host=h&port=7":                            {"h:7", "u", "p", "x", "prefer", nil},
	} {
		got, err := Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want.params == nil {
			want.params = map[string]string{}
		}
		want.params["application_name"] = "airlock"
		var hosts []string
		for _, h := range got.Hosts {
			hosts = append(hosts, h.String())
		}
		if diff := cmp.Diff([]any{want.hosts, want.user, want.password, want.db, want.mode, want.params},
			[]any{strings.Join(hosts, " "), got.User, got.password, got.Database, got.Mode, got.params}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
}

// TestRefusedURLs gives each URL the password hunter2 somewhere, which must not
// show in the error.
func TestRefusedURLs(t *testing.T) {
	for raw, reason := range map[string]string{
		"":                                                       "empty",
		"mysql://u:hunter2@h/x":                                  "does not begin",
		"host=h user=u password=hunter2":                         "does not begin",
		"postgres://u:hunter2@h/x\n":                             "line end",
		" postgres://u:hunter2@h/x":                              "space",
		"postgres://u:hunter2/a@h/x":                             "%2F",
		"postgres://u:hunter2?a@h/x":                             "%3F",
		"postgres://u:hunter2#a@h/x":                             "%23",
		"postgres://u:hunter2@a@h/x":                             "%40",
		"postgres://u:p@hunter2/a@h/x":                           "percent-encode",
		"postgres://u:p@hunter2?a@h/x":                           "percent-encode",
		"postgres://u:hunter2%@h/x":                              "%25",
		"postgres://u:hunter2%zz@h/x":                            "%25",
		"postgres://u:hunter2 a@h/x":                             "percent-encoded",
		"postgres://u:hunter2[@h/x":                              "percent-encoded",
		"postgres://u:hunter2ü@h/x":                              "percent-encoded",
		"postgres://u:hunter2%00@h/x":                            "%00",
		"postgres://u:hunter2/x":                                 "port",
		"postgres://:hunter2@h/x":                                "no user",
		"postgres://u:hunter2@/x":                                "no host",
		"postgres://u:hunter2@%2Frun/x":                          "no host",
		"postgres://u:hunter2@h:0/x":                             "port",
		"postgres://u:hunter2@h:65536/x":                         "port",
		"postgres://u:hunter2@[::1/x":                            "IPv6",
		"postgres://u:hunter2@h\"i/x":                            "host name",
		"postgres://u:hunter2@h/x?sslmode=":                      "sslmode",
		"postgres://u:hunter2@h/x?a=%":                           "options",
		"postgres://u:hunter2@h/%x":                              "name of the database",
		"postgres://u:hunter2@h/x?target_session_attrs=hunter2":  "target_session_attrs",
		"postgres://u:hunter2@a,b,c,d,e,f,g,h,i/x":               "more than 8",
		"postgres://u:" + strings.Repeat("hunter2", 2000) + "@h": "longer",
	} {
		got, err := Parse(raw)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%.60q is read as %+v, error %v", raw, got, err)
			continue
		}
		if e.Code != CodeURL || !strings.Contains(e.Reason, reason) {
			t.Errorf("%.60q: %s %q, want %q", raw, e.Code, e.Reason, reason)
		}
		f, _ := Finding(err)
		if all := fmt.Sprint(err, f); strings.Contains(all, "hunter2") {
			t.Errorf("%.60q: the password shows in %s", raw, all)
		}
	}
}

// FuzzParse looks for a URL whose error shows the part after the first colon of
// the user, and for one that net/url understands differently.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"postgres://u:p@h/x", "postgres://u:a/b@h/x", "postgres://u:p@[::1]:1,b/x?sslmode=require&a=b", "postgresql://%61@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := Parse(s)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("%q: error %T", s, err)
			}
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.User == nil || len(target.Hosts) != 1 || u.RawQuery != "" {
			return // net/url knows fewer forms
		}
		if p, _ := u.User.Password(); p != target.password || u.User.Username() != target.User || u.Hostname() != target.Hosts[0].Name {
			t.Errorf("%q: %+v, net/url reads %+v", s, target, u)
		}
	})
}

func TestIdentifierAndLiteral(t *testing.T) {
	if got := Identifier("a\"b", "c; DROP"); got != `"a""b"."c; DROP"` {
		t.Error(got)
	}
	if got := Literal(`it's \'`); got != `'it''s \'''` {
		t.Error(got)
	}
}

func TestSecretsInServerWords(t *testing.T) {
	target, err := Parse("postgres://u:s%2Fcret%22@h/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{`s/cret"`, "s%2Fcret%22", `s/cret\"`, "postgres://u:s%2Fcret%22@h/x", "s%2fcret%22", "nothing"} {
		got := target.Clean("you sent " + said)
		if want := said == "nothing"; strings.Contains(got, "you sent") != want {
			t.Errorf("%q: %q", said, got)
		}
	}
	if got := target.Clean("a\x00\x1b[31m\nb \xff" + strings.Repeat("x", 1000)); strings.ContainsAny(got, "\x00\x1b\n") || len(got) > 600 {
		t.Errorf("%q", got)
	}
}
