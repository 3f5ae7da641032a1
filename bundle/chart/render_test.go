package chart_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/airlock-project/airlock/bundle/chart"
)

func loadWeb(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := chart.LoadDir("testdata/web")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func render(t *testing.T, c *chart.Chart, o chart.Options) []chart.Object {
	t.Helper()
	objects, err := c.Render(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func names(objects []chart.Object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.Kind()+"/"+o.Name())
	}
	return out
}

func values(s ...string) (files []chart.ValuesFile) {
	for _, v := range s {
		files = append(files, chart.ValuesFile{Name: "values.yaml", Data: []byte(v)})
	}
	return files
}

func TestRenderOrder(t *testing.T) {
	got := names(render(t, loadWeb(t), chart.Options{ReleaseName: "shop"}))
	want := []string{
		"CustomResourceDefinition/clusters.acme.example.com",
		"Job/before",
		"Secret/hidden", "ConfigMap/settings", "Deployment/shop", "StatefulSet/cache", "CronJob/nightly", "Cluster/cluster",
		"Job/after",
		"Pod/probe",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
}

func TestRenderImages(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	want := []chart.Reference{
		{"acme/after:1", "Job/after spec.template.spec.containers[0].image"},
		{"acme/before:1", "Job/before spec.template.spec.containers[0].image"},
		{"acme/engine:1.5", "Cluster/cluster spec.engine"},
		{"acme/test:1", "Pod/probe spec.containers[0].image"},
		{"alpine", "Deployment/web spec.template.spec.initContainers[0].image"},
		{"busybox:1.36", "CronJob/nightly spec.jobTemplate.spec.template.spec.containers[0].image"},
		{"debug:1", "StatefulSet/cache spec.template.spec.ephemeralContainers[0].image"},
		{"docker.io/acme/extra:1", "CronJob/nightly spec.jobTemplate.spec.template.spec.containers[0].command[2]"},
		{"envoy:1.30", `ConfigMap/settings data["config.yaml"]`},
		{"gcr.io/acme/solo:2", "ConfigMap/settings data.solo"},
		{"ghcr.io/acme/model" + digest, "Deployment/web spec.template.spec.volumes[0].image.reference"},
		{"mesh/proxy:2.1", `Deployment/web metadata.annotations["proxy.example.com/image"]`},
		{"nvcr.io/nvidia/driver:550", "Cluster/cluster spec.driver"},
		{"quay.io/acme/default:v1", "CustomResourceDefinition/clusters.acme.example.com spec.versions[0].schema.openAPIV3Schema.properties.image.default"},
		{"quay.io/acme/solver:v4.5", "Deployment/web spec.template.spec.containers[0].args[0]"},
		{"quay.io/acme/web:v4.5", "Deployment/web spec.template.spec.containers[0].image"},
		{"redis:7.2", "StatefulSet/cache spec.template.spec.containers[0].image"},
		{"registry.example.com/hidden:1", "Secret/hidden data.conf"},
		{"registry.example.com:5000/launcher:v3", "Deployment/web spec.template.spec.containers[0].env[1].value"},
		{"runner:7", "Deployment/web spec.template.spec.containers[0].env[0].value"},
		{"side/car:1.0", "Deployment/web spec.template.spec.containers[0].args[4]"},
	}
	got := chart.Images(render(t, loadWeb(t), chart.Options{}))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("images (-want +got):\n%s", d)
	}
}

func TestRenderValuesInOrder(t *testing.T) {
	objects := render(t, loadWeb(t), chart.Options{
		Values: values("job: first:1\nimage: {tag: v9}\n", "job: second:2\ncache: {enabled: false}\n"),
	})
	var got []string
	for _, r := range chart.Images(objects) {
		got = append(got, r.Image)
	}
	all := strings.Join(got, " ")
	for _, want := range []string{"second:2", "quay.io/acme/web:v9"} {
		if !strings.Contains(all, want) {
			t.Errorf("images %q lack %q", all, want)
		}
	}
	for _, bad := range []string{"first:1", "redis"} {
		if strings.Contains(all, bad) {
			t.Errorf("images %q hold %q", all, bad)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    chart.Options
		want string
	}{
		{"schema", chart.Options{Values: values("replicas: 0")}, "values break the schema"},
		{"not yaml", chart.Options{Values: values("{")}, `parse values file "values.yaml"`},
		{"not a map", chart.Options{Values: values("[]")}, `parse values file "values.yaml"`},
		{"release name", chart.Options{ReleaseName: "Not A Name"}, `release name "Not A Name"`},
		{"kube version", chart.Options{KubeVersion: "new"}, `parse Kubernetes version "new"`},
		{"template", chart.Options{Values: values("image: text")}, "web/templates/deployment.yaml:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadWeb(t).Render(t.Context(), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Render: %v, want %q", err, tt.want)
			}
			if _, ok := errors.AsType[*chart.SchemaError](err); ok != (tt.name == "schema") {
				t.Errorf("Render: %v: SchemaError is %v", err, ok)
			}
		})
	}
}

func TestRenderEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	files := map[string]string{
		"Chart.yaml":       "apiVersion: v2\nname: slow\nversion: 1.0.0\n",
		"templates/a.yaml": "{{ range until 3000000 }}{{ sha256sum \"x\" | trunc 0 }}{{ end }}",
	}
	_, err := load(t, archive(t, "slow", files)).Render(ctx, chart.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Render: %v, want context.Canceled", err)
	}
}

func TestRelocate(t *testing.T) {
	objects := render(t, loadWeb(t), chart.Options{})
	before := chart.Images(objects)
	moved, unknown, err := chart.Relocate(objects, func(image string) (string, bool, error) {
		if image == "alpine" {
			return "", false, nil
		}
		if i := strings.LastIndex(image, "/"); i >= 0 {
			image = image[i+1:]
		}
		return "inside.example.net:8443/mirror/" + image, true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, chart.Images(objects)); d != "" {
		t.Errorf("Relocate changed its input:\n%s", d)
	}
	if len(unknown) != 1 || unknown[0].Image != "alpine" {
		t.Errorf("unknown references %v, want alpine", unknown)
	}
	after := chart.Images(moved)
	where := map[string]bool{}
	for _, r := range after {
		where[r.Where] = true
		if r.Image != "alpine" && !strings.HasPrefix(r.Image, "inside.example.net:8443/mirror/") {
			t.Errorf("%s still names %q", r.Where, r.Image)
		}
	}
	for _, r := range before {
		if !where[r.Where] {
			t.Errorf("%s lost its image", r.Where)
		}
	}
	files, err := chart.Files(chart.WithNamespace(moved, "shop"))
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, files)
}

// checkGolden compares what kubectl would get with testdata/web.golden.yaml,
// which `go test -run TestRelocate` prints when it differs.
func checkGolden(t *testing.T, files []chart.File) {
	t.Helper()
	var got strings.Builder
	for _, f := range files {
		got.WriteString("--- # " + f.Name + "\n" + string(f.Data))
	}
	want, err := os.ReadFile("testdata/web.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("files (-want +got):\n%s\n%s", d, got.String())
	}
}

func TestRelocateRefuses(t *testing.T) {
	objects := render(t, loadWeb(t), chart.Options{})
	boom := errors.New("boom")
	_, _, err := chart.Relocate(objects, func(string) (string, bool, error) { return "", false, boom })
	if !errors.Is(err, boom) {
		t.Errorf("Relocate: %v, want boom", err)
	}
	_, _, err = chart.Relocate(objects, func(string) (string, bool, error) { return "not an image", true, nil })
	if err == nil || !strings.Contains(err.Error(), "is not an image reference") {
		t.Errorf("Relocate: %v, want a refusal", err)
	}
}

func TestWriteFiles(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	files, err := chart.Files(render(t, loadWeb(t), chart.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := chart.WriteFiles(root, files); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		got, err := root.ReadFile(f.Name)
		if err != nil || string(got) != string(f.Data) {
			t.Errorf("%s: %v, content differs: %v", f.Name, err, string(got) != string(f.Data))
		}
	}
}
