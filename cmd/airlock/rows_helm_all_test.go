//go:build all

package main

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/cluster"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// releaseRows are the rows about the Spacelift release, on a cluster whose node
// really pulls.
type releaseRows struct {
	*cluster.Cluster
	given map[string]any
	chart []bundle.Source
}

func newReleaseRows(t *testing.T) *releaseRows {
	t.Helper()
	host, sum := backendMirror(t)
	c := &releaseRows{Cluster: cluster.Start(t, cluster.Options{Node: true, Mirror: host}), chart: []bundle.Source{backendChart(t, nil)}}
	c.given = backendGiven(c.Kubeconfig, host, sum)
	for _, class := range []string{"nginx", "spacelift"} {
		o := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressClassSpec{Controller: "example.test/" + class}}
		if _, err := c.Clientset.NetworkingV1().IngressClasses().Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// release runs deploy-helm-chart in a namespace.
func (c *releaseRows) release(t *testing.T, ns string, r row) *install.ItemReport {
	t.Helper()
	r.item, r.more = "deploy-helm-chart", c.chart
	if r.given == nil {
		r.given = c.given
	}
	in := map[string]any{"hosts.server": netHost, "hosts.mqtt": "mqtt.site-a.example", "k8s.namespace": ns}
	maps.Copy(in, r.inputs)
	r.inputs = in
	return runRow(t, r)
}

// tagged are the outputs with the backend of a version.
func (c *releaseRows) tagged(version string) map[string]any {
	given := maps.Clone(c.given)
	given["image.backend.tag"] = version
	return given
}

func (c *releaseRows) deployment(t *testing.T, ns, name string) *appsv1.Deployment {
	t.Helper()
	d, err := c.Clientset.AppsV1().Deployments(ns).Get(t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// faring are values that let the pods of a part fare in a way.
func faring(part string, o cluster.Outcome, log string) map[string]any {
	return map[string]any{"helm.values": map[string]any{part: map[string]any{"podAnnotations": map[string]any{cluster.OutcomeAnnotation: string(o), cluster.TextAnnotation: log}}}}
}

// TestRowDeployHelmChart runs the row.
func TestRowDeployHelmChart(t *testing.T) {
	c := newReleaseRows(t)
	ns, taken := c.Namespace(t), c.Namespace(t)
	backendSecrets(t, c.Cluster, ns, taken)
	if _, err := c.Clientset.CoreV1().ConfigMaps(taken).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "ingress"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	values := func(v map[string]any) map[string]any { return map[string]any{"helm.values": v} }
	for _, r := range []row{
		{name: "values", inputs: values(map[string]any{"colour": "red"}), want: install.StateFail, code: "HELM-04", says: []string{"colour", "helm.values"}},
		{
			name: "not mirrored", inputs: values(map[string]any{"proxy": "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2"}),
			want: install.StateFail, code: "HELM-09", says: []string{"gcr.io/cloud-sql-connectors/cloud-sql-proxy:2", "Pod/proxy", "definition"},
		},
		{
			name: "an object of another", inputs: map[string]any{"k8s.namespace": taken}, want: install.StateFail, code: "HELM-11",
			says: []string{"ConfigMap " + taken + "/ingress: it is there", "app.kubernetes.io/managed-by: Helm"},
		},
		{name: "planned", dryRun: true, want: install.StatePlanned},
		{name: "good", want: install.StatePass},
		{name: "again", want: install.StatePass},
		{name: "eks", platform: "eks", want: install.StateFail, code: "ING-02", says: []string{"server-v4", "spacelift", "no controller has given it an address"}},
		{name: "no such class", inputs: map[string]any{"ingress.class": "traefik"}, want: install.StateFail, code: "ING-08", says: []string{"server-v4", "traefik does not exist", "ingress.class"}},
		{
			name: "not asked", inputs: values(map[string]any{"drain": map[string]any{"startupProbe": map[string]any{"httpGet": map[string]any{"path": "/", "port": 8080}}}}),
			want: install.StateFail, code: "POD-03", says: []string{"spacelift-drain", "startup probe that asks for /startup on port 8080", "helm.values"},
		},
		{
			name: "broker without pods", inputs: values(map[string]any{"mqttService": map[string]any{"app": "nothing"}}),
			want: install.StateFail, code: "SVC-01", says: []string{"spacelift-mqtt", "no endpoint that is ready", "mqtt.service"},
		},
		{
			name: "broker on another port", inputs: map[string]any{"mqtt.port": 1883},
			want: install.StateFail, code: "SVC-01", says: []string{"spacelift-mqtt", "no port 1883"},
		},
		{name: "started again", inputs: faring("drain", cluster.Restarted, ""), want: install.StateWarn, code: "POD-02", says: []string{"spacelift-drain", "1 times", "--previous"}},
		{
			name: "ends again and again", inputs: faring("server", cluster.Crash, "starting\nlicense is expired\nbye"), limit: "32s",
			want: install.StateFail, code: "HELM-03", says: []string{"the licence is not accepted: license is expired"},
		},
		{name: "in the end", want: install.StatePass},
	} {
		t.Run(r.name, func(t *testing.T) { c.release(t, ns, r) })
	}
	conf, err := c.Clientset.CoreV1().ConfigMaps(ns).Get(t.Context(), "ingress", metav1.GetOptions{})
	if err != nil || conf.Data["class"] != "nginx" || conf.Data["host"] != netHost {
		t.Errorf("%+v, %v", conf.Data, err)
	}
	if _, err := c.Clientset.NetworkingV1().Ingresses(ns).Get(t.Context(), "server-v6", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the second ingress is there: %v", err)
	}
	// Now a load balancer comes.
	status := []byte(`{"status":{"loadBalancer":{"ingress":[{"hostname":"internal-1.elb.site-a.example"}]}}}`)
	if _, err := c.Clientset.NetworkingV1().Ingresses(ns).Patch(t.Context(), "server-v4", types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	t.Run("addressed", func(t *testing.T) {
		c.release(t, ns, row{inputs: map[string]any{"ingress.install": true}, want: install.StatePass})
	})
}

// TestRowScheduler: the chart tells from the image's tag whether the scheduler is
// a workload of its own. Given a digest behind the tag it could not.
func TestRowScheduler(t *testing.T) {
	c := newReleaseRows(t)
	ns := c.Namespace(t)
	backendSecrets(t, c.Cluster, ns)
	off := map[string]any{"helm.values": map[string]any{"scheduler": map[string]any{"enabled": false}}}
	on := map[string]any{"helm.values": map[string]any{"scheduler": map[string]any{"enabled": true}}}
	for _, tt := range []struct {
		row
		version string
		there   bool
	}{
		{row{name: "of its own", want: install.StatePass}, "v6.3.0", true},
		{row{name: "part of the drain", want: install.StatePass}, "v6.4.0", false},
		{row{name: "wanted in spite of it", inputs: on, want: install.StatePass}, "v6.4.0", true},
		{row{name: "switched off", inputs: off, want: install.StateFail, code: "HELM-05", says: []string{"no Deployment spacelift-scheduler", "scheduler.enabled"}}, "v6.3.0", false},
		{row{name: "never ready", inputs: faring("scheduler", cluster.NeverReady, ""), limit: "20s", want: install.StateFail, code: "HELM-05", says: []string{"spacelift-scheduler"}}, "v6.3.0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.given = c.tagged(tt.version)
			c.release(t, ns, tt.row)
			d := c.deployment(t, ns, "spacelift-scheduler")
			if (d != nil) != tt.there {
				t.Errorf("version %s: the scheduler is %v", tt.version, d)
			}
			if want := c.given["image.backend.repository"].(string) + ":" + tt.version + "@" + c.given["image.backend.digest"].(string); d != nil && d.Spec.Template.Spec.Containers[0].Image != want {
				t.Errorf("its image is %s, want %s", d.Spec.Template.Spec.Containers[0].Image, want)
			}
		})
	}
}

// pods are the names of the pods of each part.
func (c *releaseRows) pods(t *testing.T, ns string) string {
	t.Helper()
	list, err := c.Clientset.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			names[p.Labels["app"]] = append(names[p.Labels["app"]], p.Name)
		}
	}
	raw, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
