package gar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/google/go-cmp/cmp"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

func TestMatch(t *testing.T) {
	tests := map[string]bool{
		"europe-west1-docker.pkg.dev":              true,
		"us-docker.pkg.dev":                        true,
		"EUROPE-docker.pkg.dev:443":                true,
		"docker.me-central2.rep.pkg.dev":           true,
		"gcr.io":                                   true,
		"eu.gcr.io":                                true,
		"u-france-east1-docker.s3nsregistry.fr":    true,
		"europe-west1-docker.pkg.dev.evil.example": false,
		"evil.example/europe-west1-docker.pkg.dev": false,
		"x.europe-west1-docker.pkg.dev":            false,
		"europe-west1-docker.pkg.dev:8443":         false,
		"europe-west1-dockerXpkg.dev":              false,
		"europe-west1-npm.pkg.dev":                 false,
		"-docker.pkg.dev":                          false,
		"docker.a.b.rep.pkg.dev":                   false,
		"evil-gcr.io":                              false,
		"k8s.gcr.io":                               false,
		"europe-west1-docker.pkg.dev\n":            false,
		"":                                         false,
	}
	for host, want := range tests {
		if got := Match(host); got != want {
			t.Errorf("Match(%q) = %t", host, got)
		}
	}
	if _, err := New(Options{Host: "harbor.example", HTTPClient: http.DefaultClient}); err == nil {
		t.Error("New takes a host that Match does not")
	}
	if _, err := New(Options{Host: testHost}); err == nil {
		t.Error("New takes no client")
	}
}

func TestSplit(t *testing.T) {
	tests := []struct{ host, name, resource, image, path string }{
		{testHost, "acme/releases/app", "projects/acme/locations/europe-west1/repositories/releases", "app", "acme/releases"},
		{testHost, "acme/releases/a/b/c", "projects/acme/locations/europe-west1/repositories/releases", "a/b/c", "acme/releases"},
		{testHost, "example.com/acme/releases/app", "projects/example.com:acme/locations/europe-west1/repositories/releases", "app", "example.com/acme/releases"},
		{"us-docker.pkg.dev", "acme/gcr.io/app", "projects/acme/locations/us/repositories/gcr.io", "app", "acme/gcr.io"},
		{"eu.gcr.io", "acme/app", "projects/acme/locations/europe/repositories/eu.gcr.io", "app", "acme"},
		{testHost, "acme", "", "", ""},
		{testHost, "acme/releases", "", "", ""},
		{testHost, "example.com/acme/releases", "", "", ""},
		{testHost, "acme/9lives/app", "", "", ""},
		{testHost, "acme/re_leases/app", "", "", ""},
		{testHost, "acme/releases-/app", "", "", ""},
		{testHost, "ac_me/releases/app", "", "", ""},
		{testHost, "acme/releases//app", "", "", ""},
		{testHost, "../releases/app", "", "", ""},
		{"gcr.io", "acme", "", "", ""},
	}
	for _, tt := range tests {
		s, ok := parseHost(tt.host)
		if !ok {
			t.Fatal(tt.host)
		}
		r, image, err := s.split(tt.name)
		if tt.resource == "" {
			if e, ok := errors.AsType[*NameError](err); !ok || e.Name != tt.name {
				t.Errorf("split(%q) = %v, want a NameError", tt.name, err)
			}
			continue
		}
		if err != nil || r.resource() != tt.resource || image != tt.image || r.path != tt.path {
			t.Errorf("split(%q) = %q, %q, %q, %v", tt.name, r.resource(), image, r.path, err)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, n := range []string{"acme/releases/app", "example.com/p/r/i", "a/b", "", "/", "a/../b/c", "a:b/c/d"} {
		f.Add(n)
	}
	s, _ := parseHost(testHost)
	f.Fuzz(func(t *testing.T, name string) {
		r, image, err := s.split(name)
		if err != nil {
			return
		}
		if r.path+"/"+image != name {
			t.Errorf("%q is taken apart into %q and %q", name, r.path, image)
		}
		// The name becomes a path of the API: it must stay below the location.
		if u, err := url.Parse("https://h/v1/" + r.resource()); err != nil || u.Path != "/v1/"+r.resource() || strings.Contains(u.Path, "..") || strings.Count(u.Path, "/") != 7 {
			t.Errorf("resource %q leaves its path: %v", r.resource(), err)
		}
	})
}

const standard = `{"format":"DOCKER","mode":"STANDARD_REPOSITORY"}`

func need(name string) target.Need {
	return target.Need{Name: name, Tags: []string{"v1"}, Manifests: 6, Bytes: 1 << 20}
}

func TestInspect(t *testing.T) {
	const resource = "projects/acme/locations/europe-west1/repositories/releases"
	get := "GET /v1/" + resource
	info := func(reason string) string {
		return fmt.Sprintf(`{"error":{"code":403,"message":"refused","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":%q}]}}`, reason)
	}
	tests := []struct {
		name     string
		setup    func(*standIn)
		change   func(*Options)
		presence target.Presence
		code     target.Code // of the only notice
		fatal    bool
		words    string // of the notice, remedy included
		action   bool
	}{
		{name: "standard", setup: func(s *standIn) { s.Repos[resource] = standard }, presence: target.Present},
		{name: "remote", setup: func(s *standIn) { s.Repos[resource] = `{"format":"DOCKER","mode":"REMOTE_REPOSITORY"}` }, presence: target.Present, code: target.NotPushable, fatal: true, words: "remote repository"},
		{name: "virtual", setup: func(s *standIn) { s.Repos[resource] = `{"format":"DOCKER","mode":"VIRTUAL_REPOSITORY"}` }, presence: target.Present, code: target.NotPushable, fatal: true, words: "virtual repository"},
		{name: "npm", setup: func(s *standIn) { s.Repos[resource] = `{"format":"NPM"}` }, presence: target.Present, code: target.NotPushable, fatal: true, words: `format "NPM"`},
		{name: "immutable", setup: func(s *standIn) {
			s.Repos[resource] = `{"format":"DOCKER","dockerConfig":{"immutableTags":true}}`
		}, presence: target.Present, code: target.TagImmutable, words: "immutable"},
		{name: "no permission", setup: func(s *standIn) { s.Repos[resource] = standard; s.Denied = true }, presence: target.Present, code: target.Denied, fatal: true, words: "mirror@acme.iam.gserviceaccount.com"},
		{name: "missing", presence: target.Missing, action: true},
		{name: "missing, managed elsewhere", change: func(o *Options) { o.ManagedElsewhere = true }, presence: target.Missing, code: target.RepositoryMissing, fatal: true, words: "gcloud artifacts repositories create releases --repository-format=docker --location=europe-west1 --project=acme"},
		{name: "wrong location", setup: func(s *standIn) {
			s.Answers["GET /v1/projects/acme/locations/europe-west1"] = answer{Status: 404, Body: `{"error":{"code":404,"status":"NOT_FOUND"}}`}
		}, presence: target.Missing, code: target.WrongLocation, fatal: true, words: "gcloud artifacts locations list"},
		{name: "denied", setup: func(s *standIn) { s.Answers[get] = answer{Status: 403, Body: info("IAM_PERMISSION_DENIED")} }, presence: target.Forbidden, code: target.Denied, words: "roles/artifactregistry.writer"},
		{name: "API disabled", setup: func(s *standIn) { s.Answers[get] = answer{Status: 403, Body: info("SERVICE_DISABLED")} }, presence: target.Forbidden, code: target.APIDisabled, fatal: true, words: "gcloud services enable artifactregistry.googleapis.com --project acme"},
		{name: "perimeter", setup: func(s *standIn) { s.Answers[get] = answer{Status: 403, Body: info("SECURITY_POLICY_VIOLATED")} }, presence: target.Forbidden, code: target.Denied, fatal: true, words: "VPC Service Controls"},
		{name: "quota", setup: func(s *standIn) {
			s.Answers[get] = answer{Status: 429, Body: `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`}
		}, code: target.Throttled, words: "run again later"},
		{name: "garbage", setup: func(s *standIn) { s.Answers[get] = answer{Status: 200, Body: `<html>`} }, code: target.StateUnread, words: "cannot be asked"},
		{name: "flood", setup: func(s *standIn) { s.Answers[get] = answer{Status: 200, Body: strings.Repeat(" ", 2<<20)} }, code: target.StateUnread, words: "larger than 1 MiB"},
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
			st, err := s.target(s.keyEnv(), tt.change).Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases/app")}})
			if err != nil {
				t.Fatal(err)
			}
			if got := st.Repositories["acme/releases/app"]; got != tt.presence {
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
			if n.Code != tt.code || n.Fatal != tt.fatal || !strings.Contains(n.Text+" "+n.Remedy, tt.words) {
				t.Errorf("notice = %+v, want %q, fatal %t, %q", n, tt.code, tt.fatal, tt.words)
			}
			if a := s.Shown[testHost]; a != "" {
				t.Errorf("the registry host was shown %q", a)
			}
		})
	}
}

func TestInspectNames(t *testing.T) {
	s := newStandIn(t)
	st, err := s.target(s.keyEnv()).Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Notices) != 1 || st.Notices[0].Code != target.NameInvalid || !st.Notices[0].Fatal {
		t.Errorf("notices = %+v", st.Notices)
	}
	if len(s.Asked) != 0 {
		t.Errorf("asked %v about a name that cannot be", s.Asked)
	}
	check := s.target(s.keyEnv()).Limits().CheckRepository
	if check("acme/releases") == nil || check("acme/releases/app") != nil {
		t.Error("Limits checks another rule")
	}
}

func TestInspectRefused(t *testing.T) {
	s := newStandIn(t)
	s.Answers["GET /v1/projects/acme/locations/europe-west1/repositories/releases"] = answer{Status: 401, Body: `{"error":{"code":401,"status":"UNAUTHENTICATED"}}`}
	_, err := s.target(s.keyEnv()).Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases/app")}})
	if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.LoginRefused {
		t.Errorf("error = %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "ya29") {
		t.Errorf("the error shows the token: %v", err)
	}
	_, err = s.target(map[string]string{"NO_GCE_CHECK": "true"}).Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases/app")}})
	if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.NoCredentials {
		t.Errorf("error without credentials = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = s.target(s.keyEnv()).Inspect(ctx, target.Request{Repositories: []target.Need{need("acme/releases/app")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error of a cancelled run = %v", err)
	}
}

// TestCleanup is trap T13: manifests beside an image count toward "keep N".
func TestCleanup(t *testing.T) {
	const del = `"old":{"id":"old","action":"DELETE","condition":{"tagState":"UNTAGGED","olderThan":"2592000s"}}`
	const keep = `"few":{"id":"few","action":"KEEP","mostRecentVersions":{"keepCount":5}}`
	tests := []struct {
		name, policies string
		want           []string
	}{
		{"keep alone deletes nothing", keep, nil},
		{"untagged go", del, []string{`clean-up policy "old" deletes untagged versions older than 30 days: it matches manifests pushed to app`}},
		{"keep five", del + "," + keep, []string{
			`clean-up policy "old" deletes untagged versions older than 30 days: it matches manifests pushed to app`,
			`clean-up policy "few" keeps the 5 most recent versions of an image, and up to 6 manifests, platforms and signatures included, are pushed to app`,
		}},
		{"other package", `"x":{"action":"DELETE","condition":{"packageNamePrefixes":["web"]}}`, nil},
		{"other tags", `"x":{"action":"DELETE","condition":{"tagState":"TAGGED","tagPrefixes":["dev"]}}`, nil},
		{"these tags", `"x":{"action":"DELETE","condition":{"tagState":"TAGGED","tagPrefixes":["v"]}}`, []string{`clean-up policy "x" deletes tagged versions: it matches manifests pushed to app`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			const resource = "projects/acme/locations/europe-west1/repositories/releases"
			s.Repos[resource] = `{"format":"DOCKER","cleanupPolicies":{` + tt.policies + `}}`
			inspect := func() []string {
				st, err := s.target(s.keyEnv()).Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases/app")}})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, n := range st.Notices {
					if n.Code != target.CleanUp || n.Fatal {
						t.Errorf("notice = %+v", n)
					}
					got = append(got, n.Text)
				}
				return got
			}
			if d := cmp.Diff(tt.want, inspect()); d != "" {
				t.Error(d)
			}
			s.Repos[resource] = `{"format":"DOCKER","cleanupPolicyDryRun":true,"cleanupPolicies":{` + tt.policies + `}}`
			if got := inspect(); got != nil {
				t.Errorf("policies in dry run: %v", got)
			}
		})
	}
}

func TestPrepare(t *testing.T) {
	s := newStandIn(t)
	s.Polls = 3
	tg := s.target(s.keyEnv(), func(o *Options) { o.ImmutableTags = true; o.KMSKey = "projects/acme/k" })
	var waits []time.Duration
	tg.pause = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	req := target.Request{Repositories: []target.Need{need("acme/releases/app"), need("acme/releases/web")}}
	st, err := tg.Inspect(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Actions) != 1 {
		t.Fatalf("actions = %+v, want one for both images", st.Actions)
	}
	if err := tg.Prepare(t.Context(), st.Actions); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, waits); d != "" {
		t.Error(d)
	}
	want := map[string]any{
		"format": "DOCKER", "mode": "STANDARD_REPOSITORY", "description": "filled by airlock mirror",
		"dockerConfig": map[string]any{"immutableTags": true}, "kmsKeyName": "projects/acme/k",
	}
	if d := cmp.Diff(want, s.Posted); d != "" {
		t.Error(d)
	}
	if err := tg.Prepare(t.Context(), st.Actions); err != nil {
		t.Errorf("a second run: %v", err)
	}
	s.Repos["projects/acme/locations/europe-west1/repositories/releases"] = `{"format":"NPM"}`
	if p, ok := errors.AsType[*target.Problem](tg.Prepare(t.Context(), st.Actions)); !ok || p.Code != target.NotPushable {
		t.Error("someone made a repository of another format, and it was taken")
	}
}

func TestPrepareRefused(t *testing.T) {
	action := target.Action{Kind: "create-repository", Name: "projects/acme/locations/europe-west1/repositories/releases"}
	post := "POST /v1/projects/acme/locations/europe-west1/repositories"
	tests := []struct {
		name   string
		action target.Action
		answer answer
		code   target.Code
	}{
		{"denied", action, answer{Status: 403, Body: `{"error":{"code":403,"status":"PERMISSION_DENIED"}}`}, target.Denied},
		{"disabled", action, answer{Status: 403, Body: `{"error":{"details":[{"reason":"SERVICE_DISABLED"}]}}`}, target.APIDisabled},
		{"location", action, answer{Status: 400, Body: `{"error":{"code":400,"status":"INVALID_ARGUMENT"}}`}, target.WrongLocation},
		{"throttled", action, answer{Status: 429, Body: `{}`}, target.Throttled},
		{"failed operation", action, answer{Status: 200, Body: `{"name":"projects/acme/locations/europe-west1/operations/x","done":true,"error":{"code":8,"message":"no"}}`}, target.Denied},
		{"operation elsewhere", action, answer{Status: 200, Body: `{"name":"../../evil"}`}, ""},
		{"broken", action, answer{Status: 500, Body: `{}`}, ""},
		{"other location", target.Action{Kind: "create-repository", Name: "projects/acme/locations/us/repositories/releases"}, answer{Status: 200, Body: `{"done":true}`}, ""},
		{"other action", target.Action{Kind: "create-project", Name: action.Name}, answer{Status: 200, Body: `{"done":true}`}, ""},
		{"hostile name", target.Action{Kind: "create-repository", Name: "projects/acme/locations/europe-west1/repositories/../../x"}, answer{Status: 200, Body: `{"done":true}`}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t)
			s.Answers[post] = tt.answer
			err := s.target(s.keyEnv()).Prepare(t.Context(), []target.Action{tt.action})
			if err == nil {
				t.Fatal("no error")
			}
			p, ok := errors.AsType[*target.Problem](err)
			if ok != (tt.code != "") || ok && (p.Code != tt.code || p.Remedy == "") {
				t.Errorf("error = %v (%+v), want code %q", err, p, tt.code)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	respond := func(method string, status int, path string, e ...errcode.Error) error {
		return &errcode.ErrorResponse{Method: method, StatusCode: status, Errors: e, URL: &url.URL{Scheme: "https", Host: testHost, Path: path, RawQuery: "_state=topsecret"}}
	}
	const manifest = "/v2/acme/releases/app/manifests/v1"
	const upload = "/v2/acme/releases/app/blobs/uploads/1"
	// Bodies as the issues in registries quote them.
	tests := []struct {
		name  string
		err   error
		code  target.Code
		words string
	}{
		{"name", respond("POST", 400, "/v2/acme/blobs/uploads/", errcode.Error{Code: "NAME_INVALID", Message: "Missing image name. Pushes should be of the form docker push HOST-NAME/PROJECT-ID/REPOSITORY/IMAGE"}), target.NameInvalid, "PROJECT/REPOSITORY/IMAGE"},
		{"token", respond("PUT", 401, upload, errcode.Error{Code: "UNAUTHORIZED"}), target.LoginRefused, "disabled"},
		{"role", respond("POST", 403, upload, errcode.Error{Code: "DENIED", Message: `Permission "artifactregistry.repositories.uploadArtifacts" denied on resource "projects/acme/locations/europe-west1/repositories/releases" (or it may not exist)`}), target.Denied, "roles/artifactregistry.writer on repository projects/acme/locations/europe-west1/repositories/releases"},
		{"perimeter", respond("POST", 403, upload, errcode.Error{Code: "DENIED", Message: "Request is prohibited by organization's policy."}), target.Denied, "VPC Service Controls"},
		{"API off", respond("POST", 403, upload, errcode.Error{Code: "DENIED", Message: "Artifact Registry API has not been used in project 1 before or it is disabled."}), target.APIDisabled, "gcloud services enable"},
		{"repository", respond("POST", 404, upload, errcode.Error{Code: "NAME_UNKNOWN", Message: `Repository "releases" not found`}), target.RepositoryMissing, "location europe-west1"},
		{"quota", respond("PUT", 429, manifest, errcode.Error{Code: "TOOMANYREQUESTS", Message: "RESOURCE_EXHAUSTED"}), target.Throttled, "18,000 writes"},
		{"proxy", respond("PUT", 413, upload), target.TooLarge, "proxy"},
		{"immutable", respond("PUT", 400, manifest, errcode.Error{Code: "MANIFEST_INVALID", Message: "words nobody has confirmed"}), target.TagImmutable, "another tag"},
		{"by digest", respond("PUT", 400, "/v2/acme/releases/app/manifests/sha256:aa"), "", ""},
		{"unknown manifest", respond("GET", 404, manifest, errcode.Error{Code: "MANIFEST_UNKNOWN"}), "", ""},
		{"server", respond("PUT", 500, manifest), "", ""},
		{"other", errors.New("cut"), "", ""},
	}
	s := newStandIn(t)
	s.Repos["projects/acme/locations/europe-west1/repositories/releases"] = `{"format":"DOCKER","dockerConfig":{"immutableTags":true}}`
	tg := s.target(s.keyEnv())
	if _, err := tg.Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/releases/app")}}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tg.Explain(tt.err)
			p, ok := errors.AsType[*target.Problem](got)
			if tt.code == "" {
				if got != tt.err { //nolint:errorlint // the very same error must come back
					t.Errorf("Explain made %v of an error it does not know", got)
				}
				return
			}
			if !ok || p.Code != tt.code || !strings.Contains(p.Remedy, tt.words) {
				t.Fatalf("Explain = %v (%+v), want %q, %q", got, p, tt.code, tt.words)
			}
			if strings.Contains(got.Error(), "topsecret") {
				t.Errorf("the error shows an upload's state: %v", got)
			}
			if again := tg.Explain(got); again != got { //nolint:errorlint // the very same error must come back
				t.Error("Explain wraps twice")
			}
			_, auth := errors.AsType[*remote.AuthError](got)
			if auth != (tt.code == target.LoginRefused) {
				t.Errorf("AuthError in the chain: %t", auth)
			}
		})
	}
	if tg.Explain(nil) != nil {
		t.Error("Explain(nil) is not nil")
	}
	fresh := s.target(map[string]string{})
	err := fresh.Explain(respond("GET", 403, manifest, errcode.Error{Code: "DENIED", Message: `Permission "artifactregistry.repositories.downloadArtifacts" denied`}))
	if p, ok := errors.AsType[*target.Problem](err); !ok || p.Code != target.NoCredentials {
		t.Errorf("an anonymous push = %v", err)
	}
}

func TestTokenStaysWithItsHosts(t *testing.T) {
	s := newStandIn(t)
	s.Repos["projects/acme/locations/europe-west1/repositories/releases"] = standard
	s.Answers["GET /v1/projects/acme/locations/europe-west1/repositories/other"] = answer{Status: 302, Body: "https://sts.googleapis.com/take"}
	tg := s.target(s.fileEnv(wif(t, "oidc-subject", true)))
	if _, err := tg.Inspect(t.Context(), target.Request{Repositories: []target.Need{need("acme/other/app"), need("acme/releases/app")}}); err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for h, a := range s.Shown {
		if strings.Contains(a, "ya29.") {
			hosts = append(hosts, h)
		}
	}
	if slices.Contains(s.Asked, "GET sts.googleapis.com/take") {
		t.Error("a redirect of the API was followed")
	}
	if !slices.Equal(hosts, []string{"artifactregistry.googleapis.com"}) {
		t.Errorf("access token shown to %v", hosts)
	}
}
