//go:build all

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/airlock-project/airlock/testdata/fixture"
)

// variant is a chart whose pods crash, or whose every object is newer.
type variant int

// limit is the time that a release has to fail: Helm waits for three quarters.
const limit = "1m"

const (
	good variant = iota
	broken
	newer
)

// note is the annotation of the pods.
func (v variant) note() string {
	if v == broken {
		return "{" + cluster.OutcomeAnnotation + ": " + string(cluster.Crash) + ", " + cluster.TextAnnotation + ": no database}"
	}
	return "{}"
}

func (v variant) version() string {
	if v == newer {
		return "0.63.0"
	}
	return "0.62.0"
}

// labelled puts the version into a label of every object.
func (v variant) labelled(files map[string]string) map[string]string {
	for name, text := range files {
		files[name] = strings.ReplaceAll(text, "metadata: {name:", "metadata: {labels: {v: "+strconv.Quote(v.version())+"}, name:")
	}
	return files
}

// spaceliftChart has what Spacelift's chart has.
func spaceliftChart(t *testing.T, v variant) bundle.Source {
	t.Helper()
	note := v.note()
	workload := func(part string) string {
		probe := "startupProbe: {httpGet: {path: /startup, port: 8080}}"
		if part == "server" {
			probe = "readinessProbe: {httpGet: {path: /readiness, port: 8080}}"
		}
		return `apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-` + part + `}
spec:
  selector: {matchLabels: {app: ` + part + `}}
  template:
    metadata: {labels: {app: ` + part + `}, annotations: ` + note + `}
    spec: {containers: [{name: ` + part + `, image: {{ .Values.shared.image | quote }}, envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}], ` + probe + `}]}
---
apiVersion: v1
kind: Service
metadata: {name: spacelift-` + part + `}
spec: {selector: {app: ` + part + `}, ports: [{port: 80}]}
`
	}
	route := func(name, host, class string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: " + name + "}\nspec:\n  ingressClassName: {{ " + class + " }}\n  rules: [{host: " + host + ", http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: spacelift-server, port: {number: 80}}}}]}}]\n"
	}
	return standChart(t, "spacelift", v.labelled(map[string]string{
		"Chart.yaml":             "apiVersion: v2\nname: spacelift-self-hosted\nversion: " + v.version() + "\n",
		"values.yaml":            "shared: {serverHostname: \"\", image: \"\", secretRef: \"\"}\ningress: {ingressClassName: \"\"}\nvcsGateway: {enabled: false, domain: \"\", gateway: {enabled: false}, ingress: {enabled: true, ingressClassName: \"\"}}\n",
		"templates/account.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: spacelift-backend}\n",
		"templates/server.yaml":  workload("server"),
		"templates/drain.yaml":   workload("drain"),
		"templates/sched.yaml":   workload("scheduler"),
		"templates/mqtt.yaml":    "apiVersion: v1\nkind: Service\nmetadata: {name: spacelift-mqtt}\nspec: {selector: {app: server}, ports: [{port: 1984}]}\n",
		"templates/ingress.yaml": route("server-v4", "{{ .Values.shared.serverHostname }}", ".Values.ingress.ingressClassName"),
		"templates/gateway.yaml": "{{ with .Values.vcsGateway }}{{ if .enabled }}{{ if .ingress.enabled }}" + route("vcs-gateway", "{{ .domain }}", ".ingress.ingressClassName") + "{{ end }}{{ if .gateway.enabled }}\n---\n" +
			"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: vcs-gateway}\nspec: {gatewayClassName: {{ .gateway.gatewayClassName }}}\n---\n" +
			"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: vcs-gateway}\nspec: {}\n{{ end }}{{ end }}{{ end }}\n",
		"templates/vcs.yaml": "{{ if .Values.vcsGateway.enabled }}" + workload("vcs-gateway") + "{{ end }}",
	}))
}

// rightsController has what the chart of the worker controller has, which is
// given namespaces to work in.
func rightsController(t *testing.T, v variant) bundle.Source {
	t.Helper()
	note := v.note()
	const full = "spacelift-workerpool-controller"
	role := func(name, namespace, rules string) string {
		return "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: " + name + "-role, namespace: " + namespace + "}\nrules:\n" + rules +
			"---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: " + name + "-rolebinding, namespace: " + namespace + "}\n" +
			"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: " + name + "-role}\nsubjects: [{kind: ServiceAccount, name: " + full + ", namespace: {{ $.Release.Namespace }}}]\n---\n"
	}
	files := map[string]string{
		"Chart.yaml":             "apiVersion: v2\nname: " + full + "\nversion: " + v.version() + "\n",
		"values.yaml":            "controllerManager: {namespaces: []}\ncrds: {install: true}\n",
		"templates/account.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: " + full + "}\n",
		"templates/manager.yaml": strings.Replace(standDeployment(full+"-controller-manager", only("controllerManager.namespaces", standIn), ""), "labels: {app: "+full+"-controller-manager}}\n    spec", "labels: {app: "+full+"-controller-manager}, annotations: "+note+"}\n    spec", 1),
		"templates/roles.yaml": "{{ range .Values.controllerManager.namespaces }}\n" + role(full+"-manager", "{{ . }}",
			"- {apiGroups: [\"\"], resources: [events], verbs: [create, patch]}\n"+
				"- {apiGroups: [\"\"], resources: [pods], verbs: [create, delete, get, list, watch]}\n"+
				"- {apiGroups: [\"\"], resources: [secrets], verbs: [create, delete, get, list, update, watch]}\n"+
				"- {apiGroups: [workers.spacelift.io], resources: [workerpools, workers], verbs: [create, delete, get, list, patch, update, watch]}\n"+
				"- {apiGroups: [workers.spacelift.io], resources: [workerpools/finalizers, workers/finalizers], verbs: [update]}\n") + "{{ end }}\n" +
			role(full+"-leader-election", "{{ .Release.Namespace }}",
				"- {apiGroups: [\"\"], resources: [configmaps], verbs: [get, list, watch, create, update, patch, delete]}\n- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}\n"),
	}
	for kind, plural := range map[string]string{"WorkerPool": "workerpools", "Worker": "workers"} {
		files["templates/crd-"+plural+".yaml"] = "{{ if .Values.crds.install }}" + e2eLike(kind, plural) + "{{ end }}"
	}
	return standChart(t, full, v.labelled(files))
}

func e2eLike(kind, plural string) string {
	return "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: " + plural + ".workers.spacelift.io}\nspec:\n  group: workers.spacelift.io\n  scope: Namespaced\n" +
		"  names: {kind: " + kind + ", plural: " + plural + ", singular: " + strings.ToLower(kind) + ", listKind: " + kind + "List}\n" +
		"  versions: [{name: v1beta1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]\n"
}

// publicChart is a chart out of its project's Go module, with its images.
func publicChart(t *testing.T, name, module, dir, version string, v variant) (source bundle.Source, images []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	root := filepath.Join(at, "chart")
	if err := os.CopyFS(root, os.DirFS(filepath.Join(m.Dir, dir))); err != nil {
		t.Fatal(err)
	}
	edit := func(file string, change func(string) string) {
		path := filepath.Join(root, file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit("Chart.yaml", func(s string) string {
		s = strings.ReplaceAll(s, "v0.0.0", version)
		if v == newer {
			s = regexp.MustCompile(`(?m)^version: .*`).ReplaceAllString(s, "version: "+version+"9")
		}
		return s
	})
	edit("values.yaml", func(s string) string {
		s = regexp.MustCompile(`(digest\w*): sha256:\w+`).ReplaceAllString(s, "$1: \"\"") // images here are others
		switch v {
		case broken: // the controller's own pods, not those of hooks
			s = regexp.MustCompile(`(?m)^(# |  )podAnnotations: \{\}`).ReplaceAllStringFunc(s, func(m string) string {
				return strings.Replace(strings.TrimPrefix(m, "# "), "{}", v.note(), 1)
			})
		case newer:
			s = strings.ReplaceAll(s, "commonLabels: {}", "commonLabels: {airlock.test/newer: \"yes\"}")
		}
		return s
	})
	c, err := chart.LoadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := c.Render(t.Context(), chart.Options{ReleaseName: name, Namespace: name})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range chart.Images(objects) {
		images = append(images, ref.Image)
	}
	slices.Sort(images)
	images = slices.Compact(images)
	return helm.New(nil, fixture.Spool(t), at, manifests.Chart{Name: name, Path: "chart"}, fixture.Epoch, nil), images
}

func certManager(t *testing.T, v variant) (bundle.Source, []string) {
	return publicChart(t, "cert-manager", "github.com/cert-manager/cert-manager@v1.21.2", "deploy/charts/cert-manager", "v1.21.2", v)
}

func ingressNginx(t *testing.T, v variant) (bundle.Source, []string) {
	return publicChart(t, "ingress-nginx", "k8s.io/ingress-nginx@v0.0.0-20240708192948-52c50467d67d", "charts/ingress-nginx", "4.11.0", v)
}

// rightsSources are the charts of a site in their variants, and the images that
// the bundle carries for them.
type rightsSources struct {
	images  []string
	carried []bundle.Source
	charts  map[string]map[variant]bundle.Source
}

func (r *rightsSources) add(t *testing.T, name string, make func(*testing.T, variant) (bundle.Source, []string)) {
	t.Helper()
	if r.charts == nil {
		r.charts = map[string]map[variant]bundle.Source{}
	}
	r.charts[name] = map[variant]bundle.Source{}
	for _, v := range []variant{good, broken, newer} {
		source, images := make(t, v)
		r.charts[name][v] = source
		if v == good {
			r.images = append(r.images, images...)
		}
	}
}

// with is a bundle with one chart in a variant, or all as they are good.
func (r *rightsSources) with(t *testing.T, v variant, names ...string) []bundle.Source {
	if r.carried == nil {
		r.carried = rowImages(t, r.images...)
	}
	out := slices.Clone(r.carried)
	for name, variants := range r.charts {
		if len(names) == 0 || slices.Contains(names, name) {
			out = append(out, variants[v])
		}
	}
	return out
}
