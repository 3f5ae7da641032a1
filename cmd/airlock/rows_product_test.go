package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
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
		"vcs-gateway":                   {[]string{`"name":"vcs-gateway"`, "vcs-gateway-cert"}, []string{`"name":"spacelift-vcs-gateway"`}},
		"image-pull-credentials":        {[]string{"imagePullSecrets", "meta.helm.sh/release-name", "app.kubernetes.io/managed-by"}, nil},
		"distribute-ca-trust":           {[]string{"/opt/spacelift/certs"}, []string{"/ops/spacelift/certs"}},
		"install-workerpool-controller": {[]string{"/opt/spacelift/certs", "enclave-ca.pem"}, []string{"/ops/spacelift/certs"}},
		"install-ingress-controller":    {[]string{"retired upstream"}, nil},
		"eks-ingress-class":             {[]string{`"scheme":"internal"`}, nil},
		"create-kubernetes-secrets":     {[]string{"ADDITIONAL_ROOT_CAS", "SPACELIFT_PUBLIC_API"}, nil},
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
