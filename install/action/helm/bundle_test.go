package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// carried is a bundle as far as the action reads it.
type carried struct {
	entries []bundle.Entry
	blobs   map[digest.Digest][]byte
}

func (c *carried) Items() iter.Seq2[bundle.Entry, error] {
	return func(yield func(bundle.Entry, error) bool) {
		for _, e := range c.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *carried) Manifest(d digest.Digest) ([]byte, bundle.Descriptor, bool) {
	raw, ok := c.blobs[d]
	return raw, bundle.Descriptor{Digest: d}, ok
}

func (c *carried) ReadBlob(_ context.Context, desc bundle.Descriptor) ([]byte, error) {
	raw, ok := c.blobs[desc.Digest]
	if !ok {
		return nil, errors.New("no such blob")
	}
	return raw, nil
}

func (c *carried) Fetch(ctx context.Context, desc bundle.Descriptor) (io.ReadCloser, error) {
	raw, err := c.ReadBlob(ctx, desc)
	return io.NopCloser(bytes.NewReader(raw)), err
}

func (c *carried) add(media string, data []byte) bundle.Descriptor {
	d := digest.FromBytes(data)
	c.blobs[d] = data
	return bundle.Descriptor{MediaType: media, Digest: d, Size: int64(len(data))}
}

func (c *carried) item(t *testing.T, kind, name, artifactType string, layers ...bundle.Descriptor) {
	t.Helper()
	raw, err := json.Marshal(ocispec.Manifest{ArtifactType: artifactType, Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	c.entries = append(c.entries, bundle.Entry{Descriptor: c.add(ocispec.MediaTypeImageManifest, raw), Item: bundle.Item{Kind: kind, Name: name}, Role: bundle.RoleRoot})
}

// carry makes a bundle with one chart, named demo, and carried values for it.
func carry(t *testing.T, files map[string]string, values string) *carried {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return carryDir(t, dir, values)
}

func carryDir(t *testing.T, dir, values string) *carried {
	t.Helper()
	var tgz bytes.Buffer
	if err := chart.Package(&tgz, dir, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	c := &carried{blobs: make(map[digest.Digest][]byte)}
	c.item(t, bundle.KindChart, "demo", "", c.add(chart.MediaTypeArchive, tgz.Bytes()))
	c.item(t, bundle.KindFile, "values-demo", chart.ArtifactTypeValues, c.add(chart.MediaTypeValues, []byte(values)))
	return c
}

// images are the references of the chart demo.
var images = []string{"quay.io/demo/web:1", "quay.io/demo/tool:2", "helper:3", "docker.io/demo/sub:4", "quay.io/demo/web:8", "quay.io/demo/web:9"}

// demoChart has what a chart can have: a subchart, a CRD and an object of its
// kind, hooks, a CronJob, a Secret, images in arguments and in the environment.
func demoChart() map[string]string {
	return map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 0.1.0}]\n",
		"values.yaml": "image: quay.io/demo/web:1\nreplicas: 1\ngreeting: hello\nannotations: {}\nhook: {}\n",
		"values.schema.json": `{"type":"object","properties":{"replicas":{"type":"integer"},"image":{"type":"string"},"greeting":{"type":"string"},
			"annotations":{"type":"object"},"hook":{"type":"object"},"extra":{"type":"boolean"},"sub":{"type":"object"},"global":{"type":"object"}},"additionalProperties":false}`,
		"crds/gadgets.yaml":      gadgets("a gadget"),
		"templates/gadget.yaml":  "apiVersion: demo.test/v1\nkind: Gadget\nmetadata: {name: {{ .Release.Name }}}\nspec: {image: {{ .Values.image }}, size: {{ .Values.replicas }}}\n",
		"templates/NOTES.txt":    "{{ .Values.greeting }}\n",
		"templates/secret.yaml":  "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}}\nstringData: {greeting: {{ .Values.greeting | quote }}}\n",
		"templates/random.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-random, annotations: {revision: {{ .Release.Revision | quote }}}}\ndata: {made: {{ randAlphaNum 8 | quote }}}\n",
		"templates/extra.yaml":   "{{ if .Values.extra }}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-extra}\n{{ end }}\n",
		"templates/web.yaml":     web,
		"templates/cronjob.yaml": cronjob,
		"templates/hook.yaml":    hook,

		"charts/sub/Chart.yaml":         "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
		"charts/sub/templates/web.yaml": strings.NewReplacer("{{ .Values.image }}", "demo/sub:4", "{{ .Release.Name }}", "{{ .Release.Name }}-sub", "{{ .Values.replicas }}", "1").Replace(web),
	}
}

func gadgets(description string) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.demo.test}
spec:
  group: demo.test
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, singular: gadget, listKind: GadgetList}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          description: ` + description + `
          properties:
            spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
`
}

const web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  strategy: {rollingUpdate: {maxUnavailable: 90%}}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {{ .Values.annotations | default dict | toJson }}
    spec:
      initContainers:
        - {name: init, image: "quay.io/demo/tool:2"}
      containers:
        - name: web
          image: {{ .Values.image }}
          args: ["--runner-image=quay.io/demo/tool:2", "--with", "helper:3"]
          env: [{name: LAUNCHER, value: "helper:3"}, {name: TOOL_IMAGE, value: "quay.io/demo/tool:2"}]
`

const cronjob = `apiVersion: batch/v1
kind: CronJob
metadata: {name: {{ .Release.Name }}}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: tidy, image: "quay.io/demo/tool:2"}]
`

const hook = `apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-migrate
  annotations: {helm.sh/hook: "pre-install,pre-upgrade"}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {{ .Values.hook | default dict | toJson }}}
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: "quay.io/demo/tool:2"}]
`

// relocation maps the images of the chart demo into a registry.
func relocation(t *testing.T, registry string, sum func(image string) string) map[string]any {
	t.Helper()
	var m manifests.RelocationMap
	for _, image := range images {
		name := image
		if host, rest, ok := strings.Cut(image, "/"); ok && strings.Contains(host, ".") {
			name = rest
		}
		m.Entries = append(m.Entries, manifests.Relocation{Kind: "image", Source: image, Target: registry + "/airlock/" + name, Digest: sum(image)})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func fixedSum(string) string { return "sha256:" + strings.Repeat("a", 64) }

// input are the arguments of a step for the chart demo.
func input(t *testing.T, more map[string]any) install.Input {
	t.Helper()
	with := map[string]any{"kubeconfig": "/kubeconfig", "chart": "demo", "release": "prod", "namespace": "apps", "map": relocation(t, "harbor:5000", fixedSum)}
	maps.Copy(with, more)
	return install.Input{With: with}
}
