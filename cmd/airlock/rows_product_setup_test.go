package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

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
		_, _ = w.Write(raw) // a client that left is no concern of ours
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

// TestWorkerFiles looks at what the row writes for hosts with Docker, and for a
// site that applies objects itself.
func TestWorkerFiles(t *testing.T) {
	given := map[string]any{"relocation.map": relocated()}
	s := spacelift.Start(t, spacelift.Options{})
	read := func(inputs map[string]any) string {
		t.Helper()
		got := runRow(t, row{item: "create-worker-pool", inputs: at(s, inputs), given: given, want: install.StatePass})
		path, _ := got.Outputs["pool.files"].(string)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	unit := read(map[string]any{"workers.kind": "docker", "pool.name": "hosts"})
	for _, want := range []string{
		"\nEnvironment=SPACELIFT_DEFAULT_RUNNER_IMAGE=registry.site-a.example/spacelift/runner-terraform:latest\n",
		"\nEnvironment=SPACELIFT_DEFAULT_ANSIBLE_RUNNER_IMAGE=registry.site-a.example/spacelift/runner-ansible:latest\nEnvironment=SPACELIFT_DOCKER_CONFIG_DIR=",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q:\n%s", want, unit)
		}
	}
	// Without an Ansible runner in the bundle, without a login and an authority.
	unit = read(map[string]any{"workers.kind": "docker", "pool.name": "plain", "runner.ansible_image": "registry.example/none:v1"})
	if strings.Contains(unit, "ANSIBLE") || strings.Contains(unit, "\n\n\n") {
		t.Errorf("the unit names a runner that is not there:\n%s", unit)
	}
	pool := read(map[string]any{"pool.name": "bare", "runner.ansible_image": "registry.example/none:v1", "pool.allowed_image_hosts": []any{"registry.site-a.example", "ghcr.io"}})
	for _, want := range []string{"allowedRunnerImageHosts: [\"registry.site-a.example\",\"ghcr.io\"]", "secretKeyRef: {name: \"pool-bare\", key: token}"} {
		if !strings.Contains(pool, want) {
			t.Errorf("the pool lacks %q:\n%s", want, pool)
		}
	}
	for _, not := range []string{"Ansible", "imagePullSecrets", "ConfigMap", "volumes", "volumeMounts", "\n  space:"} {
		if strings.Contains(pool, not) {
			t.Errorf("the pool has %s:\n%s", not, pool)
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
