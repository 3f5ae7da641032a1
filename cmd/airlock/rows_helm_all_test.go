//go:build all

package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/airlock-project/airlock/testdata/fixture"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rowChart is the Spacelift chart as far as the row looks at it.
func rowChart(t *testing.T) bundle.Source {
	t.Helper()
	dir := t.TempDir()
	workload := func(part string) string {
		return `apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-` + part + `}
spec:
  replicas: 2
  selector: {matchLabels: {app: ` + part + `}}
  template:
    metadata: {labels: {app: ` + part + `}}
    spec:
      containers:
        - {name: ` + part + `, image: {{ .Values.shared.image | quote }}, envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}, {secretRef: {name: {{ .Values.` + part + `.secretRef }}}}]}
`
	}
	for file, text := range map[string]string{
		"Chart.yaml":            "apiVersion: v2\nname: spacelift-self-hosted\nversion: 0.62.0\n",
		"values.yaml":           "shared: {serverHostname: \"\", image: \"\", secretRef: \"\"}\nserver: {}\ndrain: {}\ningress: {}\ningressV6: {enabled: true}\nproxy: \"\"\n",
		"values.schema.json":    `{"type":"object","properties":{"shared":{},"server":{},"drain":{},"ingress":{},"ingressV6":{},"proxy":{"type":"string"}},"additionalProperties":false}`,
		"templates/server.yaml": workload("server"),
		"templates/drain.yaml":  workload("drain"),
		"templates/proxy.yaml":  "{{ if .Values.proxy }}apiVersion: v1\nkind: Pod\nmetadata: {name: proxy}\nspec: {containers: [{name: proxy, image: {{ .Values.proxy }}}]}\n{{ end }}",
		"templates/v6.yaml":     "{{ if .Values.ingressV6.enabled }}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: second-ingress}\n{{ end }}",
		"templates/class.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ingress}\ndata: {class: {{ .Values.ingress.ingressClassName }}, host: {{ .Values.shared.serverHostname }}}\n",
	} {
		path := filepath.Join(dir, "chart", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return helm.New(nil, fixture.Spool(t), dir, manifests.Chart{Name: "spacelift", Path: "chart"}, fixture.Epoch, nil)
}

// TestRowDeployHelmChart runs the row on a cluster whose node really pulls.
func TestRowDeployHelmChart(t *testing.T) {
	host, sum := backendMirror(t)
	box := cluster.Start(t, cluster.Options{Node: true, Mirror: host})
	ns, taken := box.Namespace(t), box.Namespace(t)
	backendSecrets(t, box, ns, taken)
	if _, err := box.Clientset.CoreV1().ConfigMaps(taken).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ingress"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	given := backendGiven(box.Kubeconfig, host, sum)
	more := rowChart(t)
	for _, r := range []row{
		{name: "values", inputs: map[string]any{"helm.values": map[string]any{"colour": "red"}}, want: install.StateFail, code: "HELM-04", says: []string{"colour", "helm.values"}},
		{
			name: "not mirrored", inputs: map[string]any{"helm.values": map[string]any{"proxy": "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2"}},
			want: install.StateFail, code: "HELM-09", says: []string{"gcr.io/cloud-sql-connectors/cloud-sql-proxy:2", "Pod/proxy", "definition"},
		},
		{
			name: "an object of another", inputs: map[string]any{"k8s.namespace": taken}, want: install.StateFail, code: "HELM-11",
			says: []string{"ConfigMap " + taken + "/ingress: it is there", "app.kubernetes.io/managed-by: Helm"},
		},
		{name: "planned", dryRun: true, want: install.StatePlanned},
		{name: "good", want: install.StatePass},
		{name: "again", want: install.StatePass},
	} {
		r.item, r.given, r.more = "deploy-helm-chart", given, []bundle.Source{more}
		in := map[string]any{"hosts.server": "spacelift.site-a.example", "hosts.mqtt": "mqtt.site-a.example", "k8s.namespace": ns}
		maps.Copy(in, r.inputs)
		r.inputs = in
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
	conf, err := box.Clientset.CoreV1().ConfigMaps(ns).Get(t.Context(), "ingress", metav1.GetOptions{})
	if err != nil || conf.Data["class"] != "nginx" || conf.Data["host"] != "spacelift.site-a.example" {
		t.Errorf("%+v, %v", conf.Data, err)
	}
	list, err := box.Clientset.CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=second-ingress"})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("the second ingress is there: %v", err)
	}
}
