package charts

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/manifests"
)

func TestFind(t *testing.T) {
	a, c := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("c", 64)
	m := &manifests.RelocationMap{Entries: []manifests.Relocation{
		{Kind: "chart", Source: "charts/web:1", Target: "r/charts/web:1"},
		{Kind: "image", Source: "docker.io/library/postgres:16", Target: "r.example/library/postgres:16", SourceDigest: c, Digest: a},
		{Kind: "image", Source: "acme/app:v1@" + c, Target: "r.example/acme/app:v1", SourceDigest: c, Digest: a},
		{Kind: "image", Source: "busybox", Target: "r.example/library/busybox:latest", Digest: a},
	}}
	for image, want := range map[string]string{
		"postgres:16": "r.example/library/postgres:16", "docker.io/postgres:16": "r.example/library/postgres:16",
		"index.docker.io/library/postgres:16": "r.example/library/postgres:16", "postgres:16@" + c: "r.example/library/postgres:16",
		"postgres@" + a: "r.example/library/postgres:16", "postgres:16@sha256:" + strings.Repeat("d", 64): "", "postgres:17": "", "postgres": "",
		"acme/app:v1": "r.example/acme/app:v1", "acme/app@" + c: "r.example/acme/app:v1", "busybox:latest": "r.example/library/busybox:latest",
		"r.example/acme/app:v1": "r.example/acme/app:v1", "quay.io/acme/app:v1": "", "charts/web:1": "", "localhost/acme/app:v1": "",
	} {
		e, ok := Find(m, image)
		if got := e.Target; got != want || ok != (want != "") {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

// TestRelocateEqual rewrites short references where they stand alone, and leaves
// what only looks alike.
func TestRelocateEqual(t *testing.T) {
	a := "sha256:" + strings.Repeat("a", 64)
	m := &manifests.RelocationMap{Entries: []manifests.Relocation{
		{Kind: "image", Source: "helper:1", Target: "r.example/x/helper:1", Digest: a},
		{Kind: "image", Source: "bare", Target: "r.example/x/bare:latest", Digest: a},
	}}
	manifest := `---
# Source: c/templates/a.yaml
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          containers:
            - name: x
              image: helper:1
              args: ["helper:1", "--with=helper:1", "helper:12", "bare", "see helper:1"]
              env: [{name: HELPER, value: "helper:1"}, {name: OTHER, value: "helper:2"}]
`
	got, err := Stream(manifest, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	moved := "r.example/x/helper:1@" + a
	for _, want := range []string{
		"# Source: c/templates/a.yaml\n", "image: " + moved, "- " + moved + "\n", "--with=" + moved, "- helper:12\n", "- bare\n", "- see helper:1\n",
		"value: " + moved, "value: helper:2",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	again, err := Stream(got, m, nil)
	if err != nil || again != got {
		t.Errorf("twice: %v\n%s", err, again)
	}
	if _, err := Stream(strings.ReplaceAll(manifest, "image: helper:1", "image: other:1"), m, nil); err == nil || err.Error() != "not mirrored: other:1 in CronJob/nightly spec.jobTemplate.spec.template.spec.containers[0].image" {
		t.Error(err)
	}
	objects, err := chart.Parse(got)
	if err != nil || len(objects) != 1 || objects[0].Source != "c/templates/a.yaml" {
		t.Errorf("%+v, %v", objects, err)
	}
}

// TestRelocateIgnored: an image that stays as it is stays so in arguments too.
func TestRelocateIgnored(t *testing.T) {
	m := &manifests.RelocationMap{Entries: []manifests.Relocation{{Kind: "image", Source: "helper:1", Target: "r.example/x/helper:1", Digest: "sha256:" + strings.Repeat("a", 64)}}}
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: x, image: 'helper:1', args: ['helper:1']}]}\n"
	if got, err := Stream(manifest, m, []string{"helper:1"}); err != nil || got != manifest {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestRefuse: what does not apply refuses nothing, and what is all right is not
// told.
func TestRefuse(t *testing.T) {
	objects, err := chart.Parse("apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {scheme: internet-facing, issuer: letsencrypt}}\n")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`[{"match": "^internet-facing$", "says": "x"}]`:                                                    "internet-facing",
		`[{"match": "^internet-facing$", "says": "x", "when": false}]`:                                     "",
		`[{"match": "encrypt", "annotation": "issuer", "says": "x"}]`:                                      "encrypt",
		`[{"match": "encrypt", "annotation": "issuer", "says": "x", "not": ["letsencrypt"]}]`:              "",
		`[{"match": "encrypt", "annotation": "issuer", "kind": "Ingress", "says": "x"}]`:                   "",
		`[{"match": "encrypt", "says": "x", "not": ["letsencrypt"]}, {"match": "^internet", "says": "y"}]`: "internet",
	} {
		var list []Refusal
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, r := range Refuse(objects, list) {
			got.WriteString(r.Value)
		}
		if got.String() != want {
			t.Errorf("%s refuses %q, want %q", text, got.String(), want)
		}
	}
}
