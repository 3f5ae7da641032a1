package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/google/go-cmp/cmp"
)

// TestQuestionsByPlatform holds what airlock site init asks against lists that
// were read: UPDATE_QUESTIONS=1 writes them anew. What must never be asked is
// said here once more, so that an update does not let it in.
func TestQuestionsByPlatform(t *testing.T) {
	t.Parallel()
	foreign := map[string][]string{
		"eks":    {"storage.minio.", "storage.azure.", "ecs."},
		"ecs":    {"storage.minio.", "storage.azure.", "k8s.", "helm.", "ingress.", "issuer.", "pull."},
		"gke":    {"aws.", "ecs.", "queue.sqs.", "tls.acm_arn", "encryption.kms.", "storage.azure."},
		"aks":    {"aws.", "ecs.", "queue.sqs.", "tls.acm_arn", "encryption.kms."},
		"onprem": {"aws.", "ecs.", "queue.sqs.", "tls.acm_arn", "encryption.kms.", "storage.azure.", "storage.region", "db.admin_url", "infra."},
	}
	c := presetChecklist(t)
	for _, platform := range spacelift.Platforms() {
		list, err := install.Questions(c, &manifests.Site{Name: "site-a", Platform: platform, Airgap: "isolated"}, "v4.0.0")
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, q := range list {
			fmt.Fprintf(&got, "%s %s%s%s\n", q.Phase.ID, q.Name, map[bool]string{true: " required"}[q.Required], map[bool]string{true: " expected"}[q.Expected])
			if slices.ContainsFunc(foreign[platform], func(s string) bool { return strings.HasPrefix(q.Name, s) }) {
				t.Errorf("%s is asked for %s", platform, q.Name)
			}
		}
		name := filepath.Join("testdata", "questions", platform+".txt")
		if os.Getenv("UPDATE_QUESTIONS") != "" {
			if err := os.WriteFile(name, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); d != "" {
			t.Errorf("%s: %s", platform, d)
		}
	}
}

// TestFreshSiteAsksEnough answers what a new site file asks for without a # and
// nothing else: no row may then miss an answer that a person knows beforehand.
func TestFreshSiteAsksEnough(t *testing.T) {
	t.Parallel()
	c := presetChecklist(t)
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "secret"), []byte("postgres://airlock:long-enough@db.site-a.example/airlock"), 0o600); err != nil {
		t.Fatal(err)
	}
	given := map[string]any{
		"license.type": "jwt", "encryption.type": "rsa", "queue.type": "postgres",
		"storage.minio.endpoint": "minio.site-a.example:9000", "storage.azure.account_url": "https://account.blob.core.windows.net",
		"mqtt.endpoint": "tls://mqtt.site-a.example:1984", "networks.pods": []any{"10.1.0.0/16"}, "networks.services": []any{"10.2.0.0/16"},
		"networks.nodes": []any{"10.3.0.0/16"}, "networks.allowed": []any{"10.0.0.0/8"}, "network.endpoints": []any{"db.site-a.example:5432"},
		"usage.from": "2026-11-27", "validation.repository": "ops/validation", "validation.repository_url": "https://git.site-a.example/ops/validation",
	}
	for platform, want := range map[string]string{
		// The token is none and the file of the certificate is nowhere; nothing else is wrong.
		"onprem": "LIC-01 TLS-08",
		"gke":    "LIC-01 TLS-08",
		"aks":    "LIC-01 TLS-08",
		// What AWS names exists only once Terraform has made it.
		"eks": "FW-03 LIC-01 TLS-08 VPC-01 VPC-01",
		"ecs": "ECS-09 ECS-09 ECS-09 FW-03 LIC-01 TLS-08 VPC-01 VPC-01",
	} {
		site := &manifests.Site{Name: "site-a", Platform: platform, Airgap: "isolated", Inputs: map[string]any{}}
		list, err := install.Questions(c, site, "v4.0.0")
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range list {
			switch {
			case q.Name == "storage.type":
				site.Inputs[q.Name] = map[string]string{"onprem": "minio", "eks": "aws", "ecs": "aws", "gke": "gcp", "aks": "azure"}[platform]
			case q.Name == "storage.minio.endpoint" && platform == "onprem", q.Name == "storage.azure.account_url" && platform == "aks": // storage.type asks for them
				site.Inputs[q.Name] = given[q.Name]
			case !q.Required && !q.Expected:
			case given[q.Name] != nil:
				site.Inputs[q.Name] = given[q.Name]
			case q.Secret():
				site.Inputs[q.Name] = "file:secret"
			case q.Input.Type == "hostname":
				site.Inputs[q.Name] = "airlock.site-a.example"
			case q.Input.Type == "path":
				site.Inputs[q.Name] = "nowhere.pem"
			default:
				site.Inputs[q.Name] = "airlock"
			}
		}
		o := install.Options{Site: site, SiteDir: files}
		a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, output: "text"}
		if err := a.plainKinds(site, &o); err != nil {
			t.Fatal(err)
		}
		found, err := install.CheckSite(t.Context(), c, o, "v4.0.0")
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		var codes []string
		for _, f := range found {
			if f.Severity == install.SeverityFail {
				codes = append(codes, f.Code)
			}
		}
		slices.Sort(codes)
		if got := strings.Join(codes, " "); got != want {
			t.Errorf("%s: a site that answers what it is asked fails with %s, want %s", platform, got, want)
		}
	}
}

// TestFreshSiteIsOne: where nothing has to be answered, a new site file is in
// order as it is.
func TestFreshSiteIsOne(t *testing.T) {
	t.Parallel()
	for _, required := range []string{"", `, requiredWhen: "true"`} {
		c, err := manifests.ParseChecklist("checklist.yaml", []byte(`apiVersion: airlock/v1
kind: Checklist
product: shop
phases: [{id: p1, number: 1, title: Open}]
inputs: {door: {type: string`+required+`}}
items:
  - {id: open, phase: p1, title: Open the door, kind: check, inputs: [door], probes: [{id: look, run: value.give, with: {values: {x: "${in.door}"}}}]}
`))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := siteTemplate(c, &manifests.Site{Name: "site-a", Platform: "onprem", Airgap: "isolated"}, "v1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := manifests.ParseSite("site.yaml", raw); (err == nil) != (required == "") {
			t.Errorf("%v:\n%s", err, raw)
		}
		if required == "" {
			raw = []byte(strings.NewReplacer("# inputs:", "inputs:", "# door:", "door: oak").Replace(string(raw)))
			if _, err := manifests.ParseSite("site.yaml", raw); err != nil {
				t.Errorf("answered: %v:\n%s", err, raw)
			}
		}
	}
}
