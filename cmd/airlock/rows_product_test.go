package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

const (
	runnerImage  = "public.ecr.aws/spacelift/runner-terraform:latest"
	ansibleImage = "public.ecr.aws/spacelift/runner-ansible:latest"
	apiKeyID     = "01KEYOFTHEADMIN"
	apiKeySecret = "3f1c9f0e-secret-of-the-admin-key"
)

// relocated is the map that the mirror hands on, with the runner images in it.
func relocated() map[string]any {
	entry := func(source, target string) map[string]any {
		return map[string]any{
			"kind": "image", "source": source, "sourceDigest": "sha256:" + strings.Repeat("a", 64),
			"target": target, "digest": "sha256:" + strings.Repeat("a", 64),
		}
	}
	return map[string]any{"apiVersion": "airlock/v1", "kind": "RelocationMap", "bundle": "sha256:" + strings.Repeat("b", 64), "target": "registry.site-a.example", "entries": []any{
		entry(runnerImage, "registry.site-a.example/spacelift/runner-terraform:latest"),
		entry(ansibleImage, "registry.site-a.example/spacelift/runner-ansible:latest"),
	}}
}

// at are the inputs of a site whose server is s, with an API key.
func at(s *spacelift.Server, more map[string]any) map[string]any {
	in := map[string]any{"validation.server_url": s.URL, "tls.ca_file": s.CAFile, "api.key_id": apiKeyID, "api.key_secret": apiKeySecret}
	for k, v := range more {
		if in[k] = v; v == nil {
			delete(in, k)
		}
	}
	return in
}

// runRows runs cases of one item; none may show a token of the server.
func runRows(t *testing.T, item string, s *spacelift.Server, rows []row) {
	t.Helper()
	for _, r := range rows {
		r.item = item
		t.Run(r.name, func(t *testing.T) { noTokens(t, s, runRow(t, r)) })
	}
}

func noTokens(t *testing.T, s *spacelift.Server, got *install.ItemReport) {
	t.Helper()
	if s == nil || got == nil {
		return
	}
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range s.Tokens() {
		if strings.Contains(string(raw), token) {
			t.Errorf("a token shows: %s", raw)
		}
	}
}

func TestRowLoginAdmin(t *testing.T) {
	good, gone := spacelift.Start(t, spacelift.Options{}), spacelift.Start(t, spacelift.Options{AdminStatus: http.StatusNotFound})
	admin := map[string]any{"admin.username": "root", "admin.password": "a-password-of-the-admin"}
	runRows(t, "login-admin", good, []row{
		{name: "good", inputs: at(good, admin), want: install.StateWaiting},
		{name: "no password", inputs: at(good, map[string]any{"admin.username": "root"}), want: install.StateFail, code: "ADM-01", says: []string{"admin.password", "ADMIN_PASSWORD", "restart"}},
		{name: "no page", inputs: at(gone, admin), want: install.StateFail, code: "ADM-02", says: []string{gone.URL + "/admin-login", "404"}},
		{name: "unknown CA", inputs: at(good, map[string]any{"admin.username": "root", "admin.password": "a-password-of-the-admin", "tls.ca_file": nil}), want: install.StateFail, code: "ADM-03", says: []string{good.URL, "tls.ca_file"}},
	})
}

func TestRowCreateAccount(t *testing.T) {
	name := func(s string) map[string]any {
		return map[string]any{"hosts.server": "spacelift.site-a.example", "account.name": s}
	}
	runRows(t, "create-account", nil, []row{
		{name: "good", inputs: name("enclave-1"), want: install.StateWaiting},
		{name: "a space", inputs: name("my account"), want: install.StateFail, code: "ACC-01", says: []string{"my account", "2 to 38"}},
		{name: "too short", inputs: name("x"), want: install.StateFail, code: "ACC-01", says: []string{"account name x"}},
		{name: "too long", inputs: name(strings.Repeat("a", 39)), want: install.StateFail, code: "ACC-01"},
		{name: "none", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StateFail, code: "ACC-01", says: []string{"account.name"}},
	})
	got := runRow(t, row{item: "create-account", inputs: name("enclave-1"), want: install.StateWaiting})
	if !strings.Contains(got.Reason, "enclave-1") || !strings.Contains(got.Reason, "https://spacelift.site-a.example") {
		t.Errorf("the statement is %q", got.Reason)
	}
}

func TestRowIssueAPIKey(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	runRows(t, "issue-api-key", s, []row{
		{name: "good", inputs: at(s, nil), want: install.StateWaiting},
		{name: "not yet", inputs: at(s, map[string]any{"api.key_id": nil, "api.key_secret": nil}), want: install.StateWaiting},
		{name: "half", inputs: at(s, map[string]any{"api.key_secret": nil}), want: install.StateFail, code: "KEY-01", says: []string{"api.key_secret is missing"}},
		{name: "wrong secret", inputs: at(s, map[string]any{"api.key_secret": "3f1c9f0e-of-somebody-else"}), want: install.StateFail, code: "KEY-02", says: []string{apiKeyID, "new admin key"}},
		{name: "unknown key", inputs: at(s, map[string]any{"api.key_id": "01OTHER"}), want: install.StateFail, code: "KEY-02", says: []string{"01OTHER", "no token"}},
		{name: "unknown CA", inputs: at(s, map[string]any{"tls.ca_file": nil}), want: install.StateFail, code: "GQL-05", says: []string{s.URL, "tls.ca_file"}},
	})
}

// idp serves the discovery of an identity provider.
func idp(t *testing.T, scopes []string, issuer string) (url, ca string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		if issuer == "" {
			issuer = "https://" + r.Host
		}
		raw, err := json.Marshal(map[string]any{"issuer": issuer, "jwks_uri": "https://" + r.Host + "/keys", "scopes_supported": scopes})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(raw)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[{"kty":"RSA"}]}`) })
	url, ca, _ = spacelift.TLS(t, mux)
	return url, ca
}

func TestRowConfigureSSO(t *testing.T) {
	url, ca := idp(t, []string{"openid", "email"}, "")
	noMail, noMailCA := idp(t, []string{"openid"}, "")
	other, otherCA := idp(t, []string{"openid", "email"}, "https://login.elsewhere.example")
	oidc := func(url, ca string) map[string]any {
		in := map[string]any{"hosts.server": "spacelift.site-a.example", "sso.type": "oidc", "sso.issuer": url, "sso.ca_file": ca}
		if ca == "" {
			delete(in, "sso.ca_file")
		}
		return in
	}
	metadata := filepath.Join(t.TempDir(), "metadata.xml")
	if err := os.WriteFile(metadata, []byte("<html>login</html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	runRows(t, "configure-sso", nil, []row{
		{name: "none", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StateSkipped},
		{name: "good", inputs: oidc(url, ca), want: install.StateWaiting},
		{name: "no email", inputs: oidc(noMail, noMailCA), want: install.StateFail, code: "SSO-01", says: []string{"openid", "scope email"}},
		{name: "issuer", inputs: oidc(other, otherCA), want: install.StateFail, code: "SSO-02", says: []string{"https://login.elsewhere.example", other}},
		{name: "unknown CA", inputs: oidc(url, ""), want: install.StateFail, code: "SSO-03", says: []string{url, "ADDITIONAL_ROOT_CAS"}},
		{name: "not there", inputs: oidc(url+"/realm", ca), want: install.StateFail, code: "SSO-04", says: []string{url + "/realm", "404"}},
		{name: "no metadata", inputs: map[string]any{"hosts.server": "spacelift.site-a.example", "sso.type": "saml", "sso.metadata_file": metadata}, want: install.StateFail, code: "SSO-05", says: []string{metadata}},
	})
}

func TestRowVCSServer(t *testing.T) {
	const token = "glpat-of-the-enclave-vcs"
	url, ca, _ := spacelift.TLS(t, spacelift.VCS(token))
	other, otherCA, host := spacelift.TLS(t, http.NotFoundHandler())
	vcs := func(kind, token string, more map[string]any) map[string]any {
		in := map[string]any{"vcs.type": kind, "vcs.url": url, "vcs.token": token, "vcs.ca_file": ca, "vcs.username": "airlock"}
		for k, v := range more {
			if in[k] = v; v == nil {
				delete(in, k)
			}
		}
		return in
	}
	runRows(t, "check-vcs-server", nil, []row{
		{name: "gitlab", inputs: vcs("gitlab", token, nil), want: install.StatePass},
		{name: "bitbucket", inputs: vcs("bitbucket-datacenter", token, nil), want: install.StatePass},
		{name: "azure devops", inputs: vcs("azure-devops", token, nil), want: install.StatePass},
		{name: "github", inputs: vcs("github-enterprise", token, nil), want: install.StatePass},
		{name: "gitlab token", inputs: vcs("gitlab", "glpat-of-somebody-else", nil), want: install.StateFail, code: "VCS-02", says: []string{url, "401", "vcs.token"}},
		{name: "bitbucket token", inputs: vcs("bitbucket-datacenter", "of-somebody-else", nil), want: install.StateFail, code: "VCS-02", says: []string{url, "401"}},
		{name: "azure token", inputs: vcs("azure-devops", "of-somebody-else", nil), want: install.StateFail, code: "VCS-02", says: []string{url, "401"}},
		{name: "unknown CA", inputs: vcs("gitlab", token, map[string]any{"vcs.ca_file": nil}), want: install.StateFail, code: "VCS-04", says: []string{url, "vcs.ca_file"}},
		{name: "another product", inputs: vcs("gitlab", token, map[string]any{"vcs.url": other, "vcs.ca_file": otherCA}), want: install.StateFail, code: "VCS-03", says: []string{host, "404", "vcs.type"}},
		{name: "not there", inputs: vcs("gitlab", token, map[string]any{"vcs.url": "https://127.0.0.1:1"}), want: install.StateFail, code: "VCS-01", says: []string{"127.0.0.1:1", "SPACELIFT_PRIVATEVCS_MAPPING"}},
		{name: "raw git", inputs: map[string]any{"validation.repository_url": url + "/infra.git", "vcs.ca_file": ca}, want: install.StatePass},
		{name: "no branch", inputs: map[string]any{"validation.repository_url": url + "/infra.git", "validation.branch": "release", "vcs.ca_file": ca}, want: install.StateFail, code: "VCS-06", says: []string{"/infra.git", "release"}},
		{name: "no repository", inputs: map[string]any{"validation.repository_url": url + "/other.git", "vcs.ca_file": ca}, want: install.StateFail, code: "VCS-06", says: []string{"/other.git", "404"}},
	})
}

func TestRowAttestVCSApp(t *testing.T) {
	in := func(kind string) map[string]any {
		return map[string]any{"hosts.server": "spacelift.site-a.example", "vcs.type": kind}
	}
	runRows(t, "attest-vcs-app", nil, []row{
		{name: "github", inputs: in("github"), want: install.StateWaiting},
		{name: "raw git", inputs: in("raw-git"), want: install.StateSkipped},
	})
}

func TestRowVCSIntegration(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	vcs := func(kind string, more map[string]any) map[string]any {
		in := at(s, map[string]any{"vcs.type": kind, "vcs.url": "https://vcs.site-a.example", "vcs.token": "glpat-of-the-enclave-vcs", "vcs.username": "airlock"})
		for k, v := range more {
			if in[k] = v; v == nil {
				delete(in, k)
			}
		}
		return in
	}
	runRows(t, "setup-vcs-integration", s, []row{
		{name: "gitlab", inputs: vcs("gitlab", nil), want: install.StatePass},
		{name: "gitlab again", inputs: vcs("gitlab", nil), want: install.StatePass},
		{name: "bitbucket", inputs: vcs("bitbucket-datacenter", nil), want: install.StatePass},
		{name: "azure devops", inputs: vcs("azure-devops", nil), want: install.StatePass},
		{name: "raw git", inputs: vcs("raw-git", map[string]any{"api.key_id": nil, "api.key_secret": nil}), want: install.StatePass},
		{name: "refused", inputs: vcs("bitbucket-datacenter", map[string]any{"vcs.username": "", "vcs.name": "second"}), want: install.StateFail, code: "VCS-05", says: []string{"username", "ADDITIONAL_ROOT_CAS"}},
		{name: "bad key", inputs: vcs("gitlab", map[string]any{"api.key_secret": "of-somebody-else"}), want: install.StateFail, code: "GQL-02", says: []string{apiKeyID}},
		{name: "unknown CA", inputs: vcs("gitlab", map[string]any{"tls.ca_file": nil}), want: install.StateFail, code: "GQL-05", says: []string{s.URL}},
	})
	if n := s.Calls("gitlabIntegrationCreate"); n != 1 {
		t.Errorf("the GitLab integration was made %d times", n)
	}
}

func TestRowRunnerImage(t *testing.T) {
	host := rowRegistry(t, "", "")
	for _, ref := range []string{"airlock/runner-terraform:v1", "airlock/runner-ansible:v1"} {
		if err := fixture.Push(t.Context(), host, ref); err != nil {
			t.Fatal(err)
		}
	}
	registry := &manifests.SiteRegistry{To: host + "/airlock", PlainHTTP: true}
	// mirrored is the map with the runners at host, under the digest there or another.
	mirrored := func(digest string) map[string]any {
		m := relocated()
		for i, name := range []string{"airlock/runner-terraform", "airlock/runner-ansible"} {
			e := m["entries"].([]any)[i].(map[string]any)
			e["target"], e["digest"] = host+"/"+name+":v1", orDefault(digest, digestAt(t, host, name))
		}
		return map[string]any{"relocation.map": m}
	}
	runRows(t, "prepare-runner-image", nil, []row{
		{name: "good", registry: registry, given: mirrored(""), want: install.StatePass},
		{
			name: "not in the registry", registry: registry, given: mirrored("sha256:" + strings.Repeat("c", 64)),
			want: install.StateFail, code: "REG-06", says: []string{"tag v1 leads to", "setup-registry-push-images"},
		},
		{
			name: "not carried", inputs: map[string]any{"runner.image": "registry.example/own-runner:v1"}, given: map[string]any{"relocation.map": relocated()},
			want: install.StateFail, code: "RNR-01", says: []string{"registry.example/own-runner:v1", "images:"},
		},
		{
			name: "no ansible", registry: registry, inputs: map[string]any{"runner.ansible_image": "registry.example/b:v1"}, given: mirrored(""),
			want: install.StateWarn, code: "RNR-02", says: []string{"registry.example/b:v1", "Ansible"},
		},
	})
}

// digestAt asks a registry for the digest of a repository's tag v1.
func digestAt(t *testing.T, host, repo string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+host+"/v2/"+repo+"/manifests/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	digest := resp.Header.Get("Docker-Content-Digest")
	if digest == "" {
		t.Fatalf("%s:v1: status %s and no digest", repo, resp.Status)
	}
	return digest
}

func TestRowWorkerPool(t *testing.T) {
	given := map[string]any{"relocation.map": relocated()}
	bring := t.TempDir()
	token, key := filepath.Join(bring, "token"), filepath.Join(bring, "key")
	for _, path := range []string{token, key} {
		if err := os.WriteFile(path, []byte("material-of-the-pool"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, refusing, made := spacelift.Start(t, spacelift.Options{}), spacelift.Start(t, spacelift.Options{RefuseCSR: true}), spacelift.Start(t, spacelift.Options{})
	made.AddPool("enclave")
	own := map[string]any{"pool.token_file": token, "pool.key_file": key}
	runRows(t, "create-worker-pool", s, []row{
		{name: "kubernetes", inputs: at(s, nil), given: given, want: install.StatePass},
		{name: "docker", inputs: at(s, map[string]any{"workers.kind": "docker", "pool.name": "hosts"}), given: given, want: install.StatePass},
		{name: "token lost", inputs: at(s, nil), given: given, want: install.StateFail, code: "WP-07", says: []string{"worker pool enclave", "pool-enclave.token", "only once"}},
		{name: "made in the web interface", inputs: at(made, own), given: given, want: install.StatePass},
		{name: "no such pool", inputs: at(refusing, own), given: given, want: install.StateFail, code: "WP-08", says: []string{"worker pool enclave", "pool.name"}},
		{name: "half set", inputs: at(s, map[string]any{"pool.token_file": token}), given: given, want: install.StateFail, code: "WP-05", says: []string{"pool.token_file", "pool.key_file is not"}},
		{name: "CSR refused", inputs: at(refusing, nil), given: given, want: install.StateFail, code: "WP-06", says: []string{"signing request", "pool-NAME.key"}},
		{name: "bad key", inputs: at(s, map[string]any{"api.key_secret": "of-somebody-else", "pool.name": "other"}), given: given, want: install.StateFail, code: "GQL-02", says: []string{apiKeyID}},
	})
	for _, path := range []string{token, key} {
		if have, err := os.ReadFile(path); err != nil || string(have) != "material-of-the-pool" {
			t.Errorf("%s was changed: %q, %v", path, have, err)
		}
	}
}

func TestRowDefaultRunnerImage(t *testing.T) {
	s, given := spacelift.Start(t, spacelift.Options{}), map[string]any{"relocation.map": relocated()}
	runRows(t, "default-runner-image", s, []row{
		{name: "good", inputs: at(s, nil), given: given, want: install.StatePass},
		{name: "before 4.0", version: "v3.9.0", inputs: at(s, nil), given: given, want: install.StateSkipped},
		{name: "bad key", inputs: at(s, map[string]any{"api.key_id": "01OTHER"}), given: given, want: install.StateFail, code: "GQL-02", says: []string{"01OTHER", "api.key_id"}},
		{name: "502", inputs: at(spacelift.Start(t, spacelift.Options{Status: http.StatusBadGateway}), nil), given: given, want: install.StateFail, code: "GQL-01", says: []string{"502"}},
	})
	if got := s.Runner(); got != "registry.site-a.example/spacelift/runner-terraform:latest" {
		t.Errorf("the account's runner is %q", got)
	}
}

// TestRowsDryRun plans the actions: nothing is made, and what is not known yet
// stops no plan.
func TestRowsDryRun(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	for item, more := range map[string]map[string]any{
		"create-worker-pool": nil, "trigger-run": nil, "usage-reporting": {"usage.from": "2026-01-01"},
		"create-test-stack":     {"validation.repository": "a/b", "validation.repository_url": "https://vcs.site-a.example/a/b"},
		"setup-vcs-integration": {"vcs.type": "gitlab", "vcs.url": "https://vcs.site-a.example", "vcs.token": "glpat-of-the-enclave-vcs"},
		"distribute-ca-trust":   {"hosts.server": "spacelift.site-a.example", "trust.system_bundle": s.CAFile},
	} {
		t.Run(item, func(t *testing.T) {
			got := runRow(t, row{item: item, inputs: at(s, more), dryRun: true, want: install.StatePlanned})
			if len(got.Plan) == 0 {
				t.Errorf("%s has no plan: %+v", item, got)
			}
		})
	}
	for _, made := range []string{"workerPoolCreate", "stackCreate", "runTrigger", "gitlabIntegrationCreate", "metrics"} {
		if n := s.Calls(made); n != 0 {
			t.Errorf("a dry run called %s", made)
		}
	}
}

// settled is test.give as an action that finds its work done.
type settled struct{ give }

func (settled) Plan(context.Context, install.Input) (install.Change, error) {
	return install.Change{Summary: "given", Nothing: true}, nil
}

// TestRowsResume runs actions, resumes, and runs them once more: a resume finds
// nothing to do, and another run makes nothing twice.
func TestRowsResume(t *testing.T) {
	s := spacelift.Start(t, spacelift.Options{})
	stack := s.AddStack("airlock-validation", "pool-1")
	for _, r := range []row{
		{item: "create-worker-pool", inputs: at(s, nil), given: map[string]any{"relocation.map": relocated()}},
		{item: "create-worker-pool", inputs: at(s, map[string]any{"workers.kind": "docker", "pool.name": "hosts"}), given: map[string]any{"relocation.map": relocated()}},
		{
			item: "create-test-stack", inputs: at(s, map[string]any{"validation.stack": "second", "validation.repository": "a/b", "validation.repository_url": "https://vcs.site-a.example/a/b"}),
			given: map[string]any{"relocation.map": relocated(), "pool.id": "pool-1"},
		},
		{item: "trigger-run", inputs: at(s, map[string]any{"validation.poll": "1ms"}), given: map[string]any{"test.stack_id": stack}},
		{item: "setup-vcs-integration", inputs: at(s, map[string]any{"vcs.type": "gitlab", "vcs.url": "https://vcs.site-a.example", "vcs.token": "glpat-of-the-enclave-vcs"})},
		{item: "distribute-ca-trust", inputs: at(s, map[string]any{"trust.system_bundle": s.CAFile})},
		{item: "usage-reporting", inputs: at(s, map[string]any{"usage.from": "2026-01-01", "usage.until": "2026-01-20"})},
	} {
		t.Run(r.item, func(t *testing.T) { resumeRow(t, s, r) })
	}
	for field, want := range map[string]int{"workerPoolCreate": 2, "stackCreate": 1, "runTrigger": 1, "gitlabIntegrationCreate": 1, "metrics": 3} {
		if n := s.Calls(field); n != want {
			t.Errorf("%s was called %d times, want %d", field, n, want)
		}
	}
}

func resumeRow(t *testing.T, s *spacelift.Server, r row) {
	t.Helper()
	c := rowChecklist(t, r)
	site, _ := rowSite(t, r, c)
	b := rowBundle(t, r, c)
	a := &app{output: "text"}
	hosts, target, err := a.siteRegistry(t.Context(), site, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := install.Options{Site: site, SiteDir: t.TempDir(), State: filepath.Join(t.TempDir(), "state"), Actor: "tester"}
	o.Probes, o.Actions = a.kinds(hosts, target, site)
	o.Actions["test.give"] = settled{give(r.given)}
	for _, resume := range []bool{false, true, false} {
		o.Resume = resume
		rep, err := install.Run(t.Context(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, ph := range rep.Phases {
			for i := range ph.Items {
				if it := &ph.Items[i]; it.ID == r.item && (it.State != install.StatePass || it.Reused != resume) {
					t.Errorf("resume %v: %s (%s), reused %v; findings %+v", resume, it.State, it.Reason, it.Reused, it.Findings)
				}
			}
		}
	}
	// What the run left outside the directory of secrets holds none.
	secrets := append(s.Tokens(), apiKeySecret, "PRIVATE KEY", "token-of-pool-")
	err = filepath.WalkDir(o.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == "secrets" {
				return filepath.SkipDir
			}
			return err
		}
		raw, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestProductTraps holds the names that documentation and charts disagree on
// against what the charts do (traps T7 to T10 and T12 of the specification).
func TestProductTraps(t *testing.T) {
	text := map[string]string{}
	for _, item := range presetChecklist(t).Items {
		raw, err := json.Marshal(item)
		if err != nil {
			t.Fatal(err)
		}
		text[item.ID] = string(raw)
	}
	for item, c := range map[string]struct{ has, lacks []string }{
		"vcs-gateway":                {[]string{`"name":"vcs-gateway"`, "vcs-gateway-cert"}, []string{`"name":"spacelift-vcs-gateway"`}},
		"image-pull-credentials":     {[]string{"imagePullSecrets", "meta.helm.sh/release-name", "app.kubernetes.io/managed-by"}, nil},
		"distribute-ca-trust":        {[]string{"/opt/spacelift/certs"}, []string{"/ops/spacelift/certs"}},
		"install-ingress-controller": {[]string{"retired upstream"}, nil},
		"eks-ingress-class":          {[]string{`"scheme":"internal"`}, nil},
		"create-kubernetes-secrets":  {[]string{"ADDITIONAL_ROOT_CAS", "SPACELIFT_PUBLIC_API"}, nil},
	} {
		for _, want := range c.has {
			if !strings.Contains(text[item], want) {
				t.Errorf("%s lacks %s", item, want)
			}
		}
		for _, not := range c.lacks {
			if strings.Contains(text[item], not) {
				t.Errorf("%s has %s", item, not)
			}
		}
	}
}

func TestRowVerifyUI(t *testing.T) {
	const uploads = "https://uploads.site-a.example"
	good := spacelift.Start(t, spacelift.Options{Uploads: uploads})
	start := func(o spacelift.Options) *spacelift.Server { return spacelift.Start(t, o) }
	down, nowhere := start(spacelift.Options{Status: http.StatusBadGateway}), start(spacelift.Options{Status: http.StatusNotFound})
	old, mixed := start(spacelift.Options{Version: "4.2.0"}), start(spacelift.Options{Issuer: "https://other.example"})
	away, noKey := start(spacelift.Options{Away: "https://elsewhere.example/"}), map[string]any{"api.key_id": nil, "api.key_secret": nil}
	runRows(t, "verify-ui-loads", good, []row{
		{name: "good", inputs: at(good, nil), given: map[string]any{"storage.uploads_url": uploads}, want: install.StatePass},
		{name: "without a key", inputs: at(good, noKey), want: install.StatePass},
		{name: "502", inputs: at(down, nil), want: install.StateFail, code: "UI-01", says: []string{down.URL, "502", "spacelift-server"}},
		{name: "404", inputs: at(nowhere, nil), want: install.StateFail, code: "UI-02", says: []string{nowhere.URL, "Ingress"}},
		{name: "version", inputs: at(old, nil), want: install.StateFail, code: "UI-03", says: []string{"4.2.0", "v4.3.0"}},
		{name: "issuer", inputs: at(mixed, nil), want: install.StateFail, code: "UI-04", says: []string{"https://other.example", mixed.URL, "SERVER_DOMAIN"}},
		{name: "uploads", inputs: at(old, nil), given: map[string]any{"storage.uploads_url": uploads}, want: install.StateFail, code: "UI-05", says: []string{uploads, "OBJECT_STORAGE_BUCKET_UPLOADS_URL"}},
		{name: "another host", inputs: at(away, nil), want: install.StateFail, code: "HTTP-01", says: []string{"elsewhere.example", "redirect"}},
		{name: "unknown CA", inputs: at(good, map[string]any{"tls.ca_file": nil}), want: install.StateFail, code: "HTTP-05", says: []string{good.URL, "tls.ca_file"}},
	})
}

func TestRowWorkersConnect(t *testing.T) {
	pool := func(workers ...spacelift.Worker) (*spacelift.Server, map[string]any) {
		s := spacelift.Start(t, spacelift.Options{Workers: func(int) []spacelift.Worker { return workers }})
		return s, map[string]any{"pool.id": s.AddPool("enclave")}
	}
	quick := map[string]any{"pool.steady": "20ms", "pool.poll": "5ms"}
	good, goodID := pool(spacelift.Worker{ID: "a"})
	none, noneID := pool()
	drained, drainedID := pool(spacelift.Worker{ID: "a", Drained: true})
	busy, busyID := pool(spacelift.Worker{ID: "a", Busy: true})
	flap := spacelift.Start(t, spacelift.Options{Workers: func(asked int) []spacelift.Worker {
		if asked > 2 {
			return nil
		}
		return []spacelift.Worker{{ID: "a"}}
	}})
	flapID := map[string]any{"pool.id": flap.AddPool("enclave")}
	runRows(t, "verify-workers-connect", good, []row{
		{name: "good", inputs: at(good, quick), given: goodID, want: install.StatePass},
		{name: "none", inputs: at(none, quick), given: noneID, want: install.StateFail, code: "WK-01", says: []string{"0 workers", "MQTT broker"}},
		{name: "too few", inputs: at(good, map[string]any{"pool.size": 3, "pool.steady": "5ms", "pool.poll": "5ms"}), given: goodID, want: install.StateFail, code: "WK-01", says: []string{"at least 3"}},
		{name: "drained", inputs: at(drained, quick), given: drainedID, want: install.StateFail, code: "WK-02", says: []string{"0 are not drained"}},
		{name: "no idle one", inputs: at(busy, quick), given: busyID, want: install.StateFail, code: "WK-04", says: []string{"0 are idle", "pool.size"}},
		{name: "flapping", inputs: at(flap, map[string]any{"pool.steady": "10m", "pool.poll": "1ms"}), given: flapID, want: install.StateFail, code: "WK-03", says: []string{"came and went", "idle timeout"}},
		{name: "502", inputs: at(spacelift.Start(t, spacelift.Options{Status: http.StatusBadGateway}), quick), given: goodID, want: install.StateFail, code: "GQL-01", says: []string{"502"}},
	})
}

func TestRowTestStack(t *testing.T) {
	s, unknown := spacelift.Start(t, spacelift.Options{}), spacelift.Start(t, spacelift.Options{UnknownVCS: true})
	given := map[string]any{"relocation.map": relocated(), "pool.id": "pool-1"}
	integrated := map[string]any{"relocation.map": relocated(), "pool.id": "pool-1", "vcs.integration_id": "enclave"}
	repo := map[string]any{"validation.repository": "infra/validation", "validation.repository_url": "https://vcs.site-a.example/infra/validation.git"}
	gitlab := map[string]any{"validation.repository": "infra/validation", "validation.stack": "by-gitlab", "vcs.type": "gitlab"}
	runRows(t, "create-test-stack", s, []row{
		{name: "good", inputs: at(s, repo), given: given, want: install.StatePass},
		{name: "again", inputs: at(s, repo), given: given, want: install.StatePass},
		{name: "gitlab", inputs: at(s, gitlab), given: integrated, want: install.StatePass},
		{name: "unknown repository", inputs: at(unknown, repo), given: given, want: install.StateFail, code: "STK-01", says: []string{"infra/validation not found", "validation.branch"}},
		{name: "no repository", inputs: at(s, nil), given: given, want: install.StateFail, code: "STK-02", says: []string{"validation.repository is missing", "terraform_data"}},
		{name: "another pool", inputs: at(s, repo), given: map[string]any{"relocation.map": relocated(), "pool.id": "pool-2"}, want: install.StateFail, code: "STK-03", says: []string{"pool-1", "pool-2"}},
		{name: "bad key", inputs: at(s, map[string]any{"validation.repository": "a/b", "validation.repository_url": "https://vcs.site-a.example/a/b", "api.key_id": "01OTHER"}), given: given, want: install.StateFail, code: "GQL-02", says: []string{"01OTHER"}},
	})
	if n := s.Calls("stackCreate"); n != 2 {
		t.Errorf("stacks were made %d times, want 2", n)
	}
}

func TestRowTriggerRun(t *testing.T) {
	quick := map[string]any{"validation.poll": "1ms", "validation.run_within": "100ms"}
	for _, c := range []struct {
		name   string
		o      spacelift.Options
		want   install.State
		code   string
		says   []string
		within string
	}{
		{name: "good", want: install.StatePass, within: "1m"},
		{name: "slow", o: spacelift.Options{Script: slices.Concat(slices.Repeat([]string{"QUEUED"}, 30), []string{"PREPARING", "FINISHED"})}, want: install.StatePass, within: "1m"},
		{name: "no worker", o: spacelift.Options{Script: []string{"QUEUED"}}, want: install.StateFail, code: "RUN-01", says: []string{"still QUEUED after 100ms", "no idle worker"}},
		{name: "no image", o: spacelift.Options{Script: []string{"QUEUED", "PREPARING"}}, want: install.StateFail, code: "RUN-02", says: []string{"PREPARING", "pulling"}},
		{name: "download", o: spacelift.Options{Script: []string{"QUEUED", "PREPARING", "INITIALIZING", "FAILED"}}, want: install.StateFail, code: "RUN-03", says: []string{"FAILED in INITIALIZING", "exit status 1", ".tofurc"}},
		{name: "no logs", o: spacelift.Options{NoLogs: true}, want: install.StateFail, code: "RUN-04", says: []string{"exists is false", "presigned"}, within: "1m"},
		{name: "stuck elsewhere", o: spacelift.Options{Script: []string{"PLANNING"}}, want: install.StateFail, code: "RUN-06", says: []string{"PLANNING", "validation.run_within"}},
		{name: "failed elsewhere", o: spacelift.Options{Script: []string{"QUEUED", "PLANNING", "FAILED"}}, want: install.StateFail, code: "RUN-07", says: []string{"FAILED in PLANNING"}},
	} {
		s := spacelift.Start(t, c.o)
		in := at(s, quick)
		in["validation.run_within"] = orDefault(c.within, "100ms")
		given := map[string]any{"test.stack_id": s.AddStack("airlock-validation", "pool-1")}
		runRows(t, "trigger-run", s, []row{{name: c.name, inputs: in, given: given, want: c.want, code: c.code, says: c.says}})
		if c.name == "good" {
			// A run of today is proof enough: no second one.
			runRows(t, "trigger-run", s, []row{{name: "again", inputs: in, given: given, want: install.StatePass}})
			if n := s.Calls("runTrigger"); n != 1 {
				t.Errorf("%d runs were started, want 1", n)
			}
		}
	}
	s := spacelift.Start(t, spacelift.Options{})
	runRows(t, "trigger-run", s, []row{{
		name: "no stack", inputs: at(s, quick), given: map[string]any{"test.stack_id": "gone"}, want: install.StateFail, code: "RUN-05", says: []string{"stack not found", "locked"},
	}})
}

func TestRowSlack(t *testing.T) {
	all := map[string]any{"hosts.server": "spacelift.site-a.example", "slack.client_id": "1.2", "slack.client_secret": "slack-client-secret", "slack.signing_secret": "slack-signing-secret"}
	half := maps.Clone(all)
	delete(half, "slack.signing_secret")
	runRows(t, "slack-integration", nil, []row{
		{name: "partial", airgap: "partial", inputs: all, want: install.StateWaiting},
		{name: "half set", airgap: "partial", inputs: half, want: install.StateFail, code: "SLK-01", says: []string{"slack.signing_secret", "SLACK_SECRET"}},
		{name: "none set", airgap: "partial", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StateFail, code: "SLK-01", says: []string{"slack.client_id"}},
	})
	got := runRow(t, row{item: "slack-integration", inputs: all, want: install.StateSkipped})
	if !strings.Contains(got.Reason, "Slack calls the server from the public Internet") {
		t.Errorf("it is skipped because %q", got.Reason)
	}
}

func TestRowUsage(t *testing.T) {
	s, weak := spacelift.Start(t, spacelift.Options{}), spacelift.Start(t, spacelift.Options{NoAdmin: true})
	broken := spacelift.Start(t, spacelift.Options{BrokenMetrics: true})
	days := func(more map[string]any) map[string]any {
		in := map[string]any{"usage.from": "2026-01-01", "usage.until": "2026-01-20"}
		maps.Copy(in, more)
		return in
	}
	runRows(t, "usage-reporting", s, []row{
		{name: "good", inputs: at(s, days(nil)), want: install.StatePass},
		{name: "by hand", inputs: at(s, map[string]any{"usage.method": "manual"}), want: install.StatePass},
		{name: "no admin", inputs: at(weak, days(nil)), want: install.StateFail, code: "USG-01", says: []string{"403", apiKeyID, "admin key"}},
		{name: "public API", inputs: at(s, days(map[string]any{"usage.public_api": "https://app.spacelift.io"})), want: install.StateFail, code: "USG-02", says: []string{"https://app.spacelift.io", "SPACELIFT_PUBLIC_API"}},
		{name: "automatic", inputs: at(s, map[string]any{"usage.method": "automatic"}), want: install.StateFail, code: "USG-02", says: []string{"isolated"}},
		{name: "not JSON", inputs: at(broken, days(nil)), want: install.StateFail, code: "USG-05", says: []string{"not JSON"}},
		{name: "no start", inputs: at(s, nil), want: install.StateFail, code: "USG-06", says: []string{"usage.from"}},
		{name: "bad key", inputs: at(s, days(map[string]any{"api.key_secret": "of-somebody-else"})), want: install.StateFail, code: "GQL-02", says: []string{apiKeyID}},
	})
	runRows(t, "hand-over-usage-data", nil, []row{
		{name: "waiting", inputs: nil, want: install.StateWaiting},
		{name: "automatic", airgap: "partial", inputs: map[string]any{"usage.method": "automatic"}, want: install.StateSkipped},
	})
}

func TestRowCATrust(t *testing.T) {
	_, ca, _ := spacelift.TLS(t, http.NotFoundHandler())
	_, vcs, _ := spacelift.TLS(t, http.NotFoundHandler())
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	in := func(more map[string]any) map[string]any {
		m := map[string]any{"hosts.server": "spacelift.site-a.example", "tls.ca_file": ca, "vcs.ca_file": vcs, "trust.system_bundle": ca}
		maps.Copy(m, more)
		return m
	}
	runRows(t, "distribute-ca-trust", nil, []row{
		{name: "no CA", inputs: map[string]any{"hosts.server": "spacelift.site-a.example"}, want: install.StateSkipped},
		{name: "not PEM", inputs: in(map[string]any{"tls.ca_file": put("text", "hello")}), want: install.StateFail, code: "RND-01", says: []string{"no PEM certificate", "tls.ca_file"}},
		{name: "no bundle", inputs: in(map[string]any{"trust.system_bundle": "/nonexistent/bundle"}), want: install.StateFail, code: "RND-02", says: []string{"/nonexistent/bundle", "trust.system_bundle"}},
	})
	got := runRow(t, row{item: "distribute-ca-trust", inputs: in(nil), want: install.StatePass})
	i := slices.IndexFunc(got.Findings, func(f install.FindingReport) bool { return strings.Contains(f.Detail, "additional-root-cas.txt") })
	if i < 0 {
		t.Fatalf("%+v", got.Findings)
	}
	text, err := os.ReadFile(strings.TrimPrefix(got.Findings[i].Detail, "written: "))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		CaCertificates []string `json:"caCertificates"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.CaCertificates) != 2 {
		t.Errorf("%s: %v", raw, err)
	}
}

// TestProductMessages checks that each code that a step of these rows can
// report under has a message, also those of the kind itself.
func TestProductMessages(t *testing.T) {
	a := &app{output: "text"}
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	probes, actions := a.kinds(hosts, nil, &manifests.Site{})
	// What a kind reports only where the step asks for it.
	only := map[string]string{
		"HTTP-03": "header", "HTTP-04": "contains", "HTTP-06": "json", "GQL-02": "login", "GQL-06": "keep", "SAML-04": "entity", "RND-02": "read",
	}
	checked := 0
	for _, item := range presetChecklist(t).Items {
		for _, s := range slices.Concat(item.Steps, item.Probes) {
			if !slices.Contains([]string{"graphql.query", "graphql.call", "graphql.wait", "usage.export", "csr.make", "file.render", "saml.metadata", "http.get"}, s.Run) {
				continue
			}
			var kind any = probes[s.Run]
			if actions[s.Run] != nil {
				kind = actions[s.Run]
			}
			own, _ := s.With["codes"].(map[string]any)
			for _, code := range slices.Sorted(maps.Keys(kind.(install.Coder).Codes())) {
				if _, asked := s.With[only[code]]; only[code] != "" && !asked || covered(s, code) {
					continue
				}
				reported := code
				if mine, ok := own[code].(string); ok {
					reported = mine
				}
				if _, ok := item.Messages[reported]; !ok {
					t.Errorf("item %s: step %s can report %s, which has no message", item.ID, s.ID, reported)
				}
				checked++
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d codes were checked", checked)
	}
}

// covered reports whether a step's own checks all name another code.
func covered(s manifests.Step, code string) bool {
	list, _ := s.With["expect"].([]any)
	if s.Run == "http.get" {
		list, _ = s.With["json"].([]any)
	}
	if code != "GQL-04" && code != "HTTP-06" || s.Run == "graphql.call" && s.With["find"] != nil {
		return code == "GQL-03" && s.With["answers"] == true
	}
	for _, check := range list {
		if m, _ := check.(map[string]any); m["code"] == nil {
			return false
		}
	}
	return true
}
