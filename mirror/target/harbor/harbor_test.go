package harbor

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/harbor/harbortest"
	"github.com/google/go-cmp/cmp"
)

func TestProbe(t *testing.T) {
	tests := []struct {
		name   string
		answer answer
		want   bool
	}{
		{"harbor", answer{}, true},
		{"other registry", answer{Status: 404, Body: "404 page not found"}, false},
		{"single sign-on in front", answer{Status: 302, Body: ""}, false},
		{"a page for everything", answer{Status: 200, Body: "<html>"}, false},
		{"other JSON", answer{Status: 200, Body: `{"status":"ok"}`}, false},
		{"flood", answer{Status: 200, Body: strings.Repeat(" ", 2<<20)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			if tt.answer.Status != 0 {
				s.Answers["GET /api/v2.0/systeminfo"] = tt.answer
			}
			got, err := Probe(t.Context(), s.client(), testHost)
			if err != nil || got != tt.want {
				t.Errorf("Probe = %t, %v", got, err)
			}
			if len(s.Shown) != 0 {
				t.Error("a credential was shown")
			}
		})
	}
	s := newStandIn(t)
	c := s.client()
	s.Server.Close()
	_, err := Probe(t.Context(), c, testHost)
	if _, ok := errors.AsType[*remote.UnreachableError](err); !ok {
		t.Errorf("Probe of a host that is down = %v", err)
	}
	if _, err := Probe(t.Context(), c, "a/b"); err == nil {
		t.Error("Probe takes a host with a path")
	}
	_, err = Probe(t.Context(), c, "http://"+testHost)
	if _, ok := errors.AsType[*remote.PlainHTTPError](err); !ok {
		t.Errorf("Probe of a host without TLS that is not listed = %v", err)
	}
}

func TestSplit(t *testing.T) {
	tg := newStandIn(t).target(robotName, secret)
	for name, ok := range map[string]bool{
		"apps/web": true, "apps/a/b/c": true, "a.b_c-d/web": true, "123/web": true, "apps/a__b--c": true,
		"apps": false, "/web": false, "apps/": false, "Apps/web": false, "apps/Web": false, "a__b/web": false,
		"a--b/web": false, "-a/web": false, "apps//web": false, "apps/../web": false, "": false,
		"apps/" + strings.Repeat("a", 250): true, "apps/" + strings.Repeat("a", 251): false,
	} {
		err := tg.Limits().CheckRepository(name)
		if (err == nil) != ok {
			t.Errorf("CheckRepository(%q) = %v", name, err)
		}
		if _, typed := errors.AsType[*NameError](err); !ok && !typed {
			t.Errorf("CheckRepository(%q) = %T", name, err)
		}
	}
}

func TestCredential(t *testing.T) {
	env := map[string]string{"HARBOR_URL": "https://" + testHost, "HARBOR_USERNAME": "admin", "HARBOR_PASSWORD": secret}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	tg, err := New(Options{Host: testHost, HTTPClient: http.DefaultClient, LookupEnv: lookup})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tg.Credential(t.Context()); err != nil || got.Username != "admin" || got.Source != "environment HARBOR_USERNAME" {
		t.Errorf("Credential = %q of %q, %v", got.Username, got.Source, err)
	}
	for _, host := range []string{"other.test", testHost + ":8443"} {
		if tg, err = New(Options{Host: host, HTTPClient: http.DefaultClient, LookupEnv: lookup}); err != nil {
			t.Fatal(err)
		}
		if p, ok := errors.AsType[*target.Problem](second(tg.Credential(t.Context()))); !ok || p.Code != target.NoCredentials {
			t.Errorf("%s is given the credential of %s", host, testHost)
		}
	}
	for _, o := range []Options{{Host: "a/b", HTTPClient: http.DefaultClient}, {Host: testHost}, {Host: testHost, HTTPClient: http.DefaultClient, StorageLimit: -2}} {
		if _, err := New(o); err == nil {
			t.Errorf("New takes %+v", o)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func request(names ...string) target.Request {
	var req target.Request
	for _, n := range names {
		req.Repositories = append(req.Repositories, target.Need{Name: n, Tags: []string{"v1", "latest", "sha256-" + strings.Repeat("a", 64) + ".sig"}, Manifests: 6, Bytes: 30 << 20})
	}
	return req
}

func TestLogin(t *testing.T) {
	tests := []struct{ name, user, password, words string }{
		{"wrong password", userName, "nope", `check user "operator"`},
		{"wrong secret", robotName, "nope", "robot disabled or expired"},
		{"disabled robot", "robot$gone", secret, "robot disabled or expired"},
		{"shell took the name", "robot+mirror", secret, "single quotes"},
		{"shell took all of it", "robot", secret, "single quotes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			tg := s.target(tt.user, tt.password)
			_, err := tg.Inspect(t.Context(), request("apps/web"))
			p, ok := errors.AsType[*target.Problem](err)
			if !ok || p.Code != target.LoginRefused || !strings.Contains(p.Remedy, tt.words) {
				t.Fatalf("error = %v (%+v)", err, p)
			}
			if _, ok := errors.AsType[*remote.AuthError](err); !ok {
				t.Error("not an AuthError: the engine would go on")
			}
			if strings.Contains(err.Error()+p.Remedy, tt.password) {
				t.Error("the secret is shown")
			}
			if slices.Contains(s.Asked, "GET /service/token") || slices.Contains(s.Asked, "GET /api/v2.0/users/current") {
				t.Errorf("asked where a wrong login is not told: %v", s.Asked)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	const get = "GET /api/v2.0/projects/apps"
	quota := func(hard, used string) func(*standIn) {
		return func(s *standIn) {
			s.Projects["apps"] = `{}`
			s.Answers[get+"/summary"] = answer{Status: 200, Body: `{"quota":{"hard":{"storage":` + hard + `},"used":{"storage":` + used + `}}}`}
		}
	}
	tests := []struct {
		name     string
		setup    func(*standIn)
		change   func(*Options)
		presence target.Presence
		code     target.Code // of the only notice
		fatal    bool
		words    string
		action   bool
	}{
		{name: "there", setup: func(s *standIn) { s.Projects["apps"] = `{"registry_id":0}` }, presence: target.PresenceUnknown},
		{name: "missing", presence: target.Missing, action: true},
		{name: "missing, managed elsewhere", change: func(o *Options) { o.ManagedElsewhere = true }, presence: target.Missing, code: target.RepositoryMissing, fatal: true, words: `Harbor project "apps" does not exist`},
		{name: "proxy cache", setup: func(s *standIn) { s.Projects["apps"] = `{"registry_id":3}` }, presence: target.PresenceUnknown, code: target.NotPushable, fatal: true, words: "proxy cache"},
		{name: "no right to push", setup: func(s *standIn) { s.Projects["apps"] = `{}`; s.Push = nil }, presence: target.PresenceUnknown, code: target.Denied, fatal: true, words: `robot "robot$apps+mirror" lacks repository:push on project apps`},
		{name: "read-only", setup: func(s *standIn) { s.Projects["apps"] = `{}`; s.Readonly = true }, presence: target.PresenceUnknown, code: target.ReadOnly, fatal: true, words: "read-only mode"},
		{name: "room", setup: quota("62914561", "1024"), presence: target.PresenceUnknown},
		{name: "no room", setup: quota("20971520", "1024"), presence: target.PresenceUnknown, code: target.QuotaExceeded, fatal: true, words: "has room for 20.0 MiB (1.0 KiB of 20.0 MiB used), and 30.0 MiB are to be pushed"},
		{name: "full, with the images there", setup: func(s *standIn) {
			quota("31457280", "31457280")(s)
			s.Repos["apps"] = []string{"web/front"}
		}, presence: target.PresenceUnknown, code: target.QuotaExceeded, words: "less what the project has already"},
		{name: "hostile quota", setup: quota("-9223372036854775808", "9223372036854775807"), presence: target.PresenceUnknown},
		{name: "plain robot", setup: func(s *standIn) {
			s.Projects["apps"] = `{"metadata":{"retention_id":"4"}}`
			s.Answers[get+"/summary"] = answer{Status: 403, Body: harbortest.Refusal("FORBIDDEN", "forbidden")}
			s.Answers[get+"/immutabletagrules"] = answer{Status: 403, Body: harbortest.Refusal("FORBIDDEN", "forbidden")}
		}, presence: target.PresenceUnknown, code: target.StateUnread, words: "its quota, its immutable tag rules, its tag retention rules"},
		{name: "immutable", setup: func(s *standIn) {
			s.Projects["apps"] = `{}`
			s.Answers[get+"/immutabletagrules"] = answer{Status: 200, Body: `[
				{"id":1,"disabled":true,"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"**"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}},
				{"id":2,"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"web/**"}]}},
				{"id":3,"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoExcludes","pattern":"web/*"}]}}]`}
		}, presence: target.PresenceUnknown, code: target.TagImmutable, words: `immutable tag rule 2 (tags matching "v*") covers web/front:v1:`},
		{name: "retention", setup: func(s *standIn) {
			s.Projects["apps"] = `{"metadata":{"retention_id":"4"}}`
			s.Answers["GET /api/v2.0/retentions/4"] = answer{Status: 200, Body: `{"id":4,"algorithm":"or","rules":[
				{"id":1,"action":"retain","template":"latestPushedK","params":{"latestPushedK":5},"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"**"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}]}`}
		}, presence: target.PresenceUnknown, code: target.CleanUp, words: `retains only the 5 pushed last of the tags matching "**": it covers web/front:v1, web/front:latest`},
		{name: "retention of others", setup: func(s *standIn) {
			s.Projects["apps"] = `{"metadata":{"retention_id":"4"}}`
			s.Answers["GET /api/v2.0/retentions/4"] = answer{Status: 200, Body: `{"rules":[
				{"template":"always","tag_selectors":[{"kind":"doublestar","decoration":"excludes","pattern":"latest"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"web/{front,back}"}]}}]}`}
		}, presence: target.PresenceUnknown, code: target.CleanUp, words: "retains none of web/front:latest"},
		{name: "project unreadable", setup: func(s *standIn) {
			s.Answers["HEAD /api/v2.0/projects"] = answer{Status: 403, Body: ""}
		}, presence: target.Forbidden, code: target.StateUnread, words: "project:read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			if tt.setup != nil {
				tt.setup(s)
			}
			if tt.change == nil {
				tt.change = func(*Options) {}
			}
			st, err := s.target(robotName, secret, tt.change).Inspect(t.Context(), request("apps/web/front"))
			if err != nil {
				t.Fatal(err)
			}
			if got := st.Repositories["apps/web/front"]; got != tt.presence {
				t.Errorf("presence = %q, want %q", got, tt.presence)
			}
			if got := len(st.Actions) == 1; got != tt.action {
				t.Errorf("actions = %v", st.Actions)
			}
			if tt.code == "" {
				if len(st.Notices) != 0 {
					t.Errorf("notices = %+v", st.Notices)
				}
				return
			}
			if len(st.Notices) != 1 {
				t.Fatalf("notices = %+v, want one", st.Notices)
			}
			n := st.Notices[0]
			if n.Code != tt.code || n.Fatal != tt.fatal || !strings.Contains(n.Text+" "+n.Remedy, tt.words) || n.Remedy == "" {
				t.Errorf("notice = %+v, want %q, fatal %t, %q", n, tt.code, tt.fatal, tt.words)
			}
		})
	}
}

func TestInspectStops(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(robotName, secret)
	st, err := tg.Inspect(t.Context(), request("nginx", "Apps/web"))
	if err != nil || len(st.Notices) != 2 || len(s.Asked) != 0 {
		t.Errorf("notices = %+v, asked %v, %v", st.Notices, s.Asked, err)
	}
	for _, n := range st.Notices {
		if n.Code != target.NameInvalid || !n.Fatal {
			t.Errorf("notice = %+v", n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tg.Inspect(ctx, request("apps/web")); !errors.Is(err, context.Canceled) {
		t.Errorf("error of a cancelled run = %v", err)
	}
	s.Server.Close()
	_, err = tg.Inspect(t.Context(), request("apps/web"))
	if _, ok := errors.AsType[*remote.UnreachableError](err); !ok {
		t.Errorf("error of a Harbor that is down = %v", err)
	}
}

func TestPrepare(t *testing.T) {
	s := newStandIn(t)
	tg := s.target(userName, secret, func(o *Options) { o.StorageLimit = -1 })
	st, err := tg.Inspect(t.Context(), request("apps/web", "apps/worker"))
	if err != nil {
		t.Fatal(err)
	}
	want := []target.Action{{Kind: "create-project", Name: "apps", Settings: map[string]string{"public": "false", "storage_limit": "-1"}}}
	if d := cmp.Diff(want, st.Actions); d != "" {
		t.Fatal(d)
	}
	for range 2 { // the second finds it there
		if err := tg.Prepare(t.Context(), st.Actions); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(map[string]any{"project_name": "apps", "metadata": map[string]any{"public": "false"}, "storage_limit": -1.0}, s.Posted); d != "" {
		t.Error(d)
	}
	s.Projects["apps"] = `{"registry_id":2}`
	if p, ok := errors.AsType[*target.Problem](tg.Prepare(t.Context(), st.Actions)); !ok || p.Code != target.NotPushable {
		t.Error("someone made a proxy cache of that name, and it was taken")
	}
}

func TestPrepareRefused(t *testing.T) {
	action := target.Action{Kind: "create-project", Name: "apps"}
	tests := []struct {
		name   string
		user   string
		action target.Action
		answer answer
		code   target.Code
		words  string
	}{
		{"robot of a project", robotName, action, answer{}, target.Denied, "system robot with project:create"},
		{"user", userName, action, answer{Status: 403, Body: harbortest.Refusal("FORBIDDEN", "forbidden")}, target.Denied, "administrator"},
		{"read-only", userName, action, answer{Status: 403, Body: harbortest.Refusal("DENIED", "The system is in read only mode. Any modification is prohibited.")}, target.ReadOnly, "wait"},
		{"cookies", userName, action, answer{Status: 403, Body: harbortest.Refusal("FORBIDDEN", "CSRF token not found in request")}, target.Denied, "cookies"},
		{"name", userName, action, answer{Status: 400, Body: harbortest.Refusal("BAD_REQUEST", "project name is not in lower case or contains illegal characters")}, target.NameInvalid, "another project"},
		{"login", userName, action, answer{Status: 401, Body: ""}, target.LoginRefused, "operator"},
		{"broken", userName, action, answer{Status: 500, Body: ""}, "", ""},
		{"other action", userName, target.Action{Kind: "create-repository", Name: "apps"}, answer{}, "", ""},
		{"hostile name", userName, target.Action{Kind: "create-project", Name: "a/../b"}, answer{}, "", ""},
		{"limit", userName, target.Action{Kind: "create-project", Name: "apps", Settings: map[string]string{"storage_limit": "lots"}}, answer{}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			if tt.answer.Status != 0 {
				s.Answers["POST /api/v2.0/projects"] = tt.answer
			}
			err := s.target(tt.user, secret).Prepare(t.Context(), []target.Action{tt.action})
			if err == nil {
				t.Fatal("no error")
			}
			p, ok := errors.AsType[*target.Problem](err)
			if ok != (tt.code != "") || ok && (p.Code != tt.code || !strings.Contains(p.Remedy, tt.words)) {
				t.Errorf("error = %v (%+v), want %q, %q", err, p, tt.code, tt.words)
			}
		})
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A registry that says nothing is not waited for as long as one that is asked
// for what matters.
func TestProbeIsImpatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		start := time.Now()
		if ok, err := Probe(t.Context(), c, testHost); ok || err == nil || time.Since(start) != probeTimeout {
			t.Errorf("%t, %v after %s", ok, err, time.Since(start))
		}
	})
}
