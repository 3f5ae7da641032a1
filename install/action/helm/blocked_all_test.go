//go:build all

package helm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// limit gives a namespace a quota and waits until it counts.
func limit(t *testing.T, ns string, hard corev1.ResourceList) {
	t.Helper()
	quotas := box.Clientset.CoreV1().ResourceQuotas(ns)
	watch, err := quotas.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "tight"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	enough := time.After(time.Minute)
	for {
		select {
		case e := <-watch.ResultChan():
			if q, ok := e.Object.(*corev1.ResourceQuota); ok && len(q.Status.Used) == len(hard) {
				return
			}
		case <-enough:
			t.Fatal("the quota does not count")
		}
	}
}

// leave puts the newest revision of prod into the state in which a run leaves it
// that is killed.
func leave(t *testing.T, ns string, status release.Status) {
	t.Helper()
	s, err := Action{}.session(t.Context(), arguments{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	history, err := s.history("prod")
	if err != nil || len(history) == 0 {
		t.Fatalf("%d revisions, %v", len(history), err)
	}
	r := history[len(history)-1]
	r.Info.Status = status
	if err := s.cfg.Releases.Update(r); err != nil {
		t.Fatal(err)
	}
}

// pods is the part of a workload that says what its pods are.
func pods(more string) string {
	return `{metadata: {labels: {a: c}}, spec: {` + more + `containers: [{name: a, image: "quay.io/demo/web:1", env: [{name: A, value: "{{ .Values.a }}"}]}]}}`
}

// TestRealQuota: what a quota refuses is told with its object before anything is
// made, and by those who cannot make pods; what is there already is not refused.
func TestRealQuota(t *testing.T) {
	ns := box.Namespace(t)
	b := carry(t, odd(map[string]string{"a.yaml": config("made", "")}), "")
	limit(t, ns, corev1.ResourceList{"count/configmaps": resource.MustParse("1")}) // the one that every namespace has
	refusal(t, b, real(t, ns, nil), "K8S-09", "ConfigMap "+ns+"/made: ", "exceeded quota: tight")
	untouched(t, ns)

	// A run that was killed has used it up: the next one takes over what it left.
	other := box.Namespace(t)
	limit(t, other, corev1.ResourceList{"count/configmaps": resource.MustParse("2")})
	in := real(t, other, nil)
	must(t, b, in)
	leave(t, other, release.StatusPendingInstall)
	must(t, b, in)
	wantRevisions(t, other, "1 failed", "2 deployed")
}

// TestRealBlocked: where pods cannot be made, who was to make them says why, also
// while earlier ones run.
func TestRealBlocked(t *testing.T) {
	ns := box.Namespace(t)
	chart := func(kind, more string) *carried {
		return carry(t, odd(map[string]string{"a.yaml": thing("apps/v1", kind, "name: w, labels: {its: own}", "spec: {"+more+"selector: {matchLabels: {a: c}}, template: "+pods("")+"}")}), "")
	}
	must(t, chart("Deployment", ""), real(t, ns, values(map[string]any{"a": "one"})))
	limit(t, ns, corev1.ResourceList{"pods": resource.MustParse("1")})
	in := real(t, ns, values(map[string]any{"a": "two"}))
	in.With["timeout"], in.With["atomic"] = "6s", false
	if f := fails(t, chart("Deployment", ""), in, "HELM-05"); f.Fields["workload"] != "Deployment "+ns+"/w" || !strings.Contains(f.Fields["reason"], "exceeded quota: tight") {
		t.Errorf("%+v", f)
	}
	for kind, more := range map[string]string{"StatefulSet": "serviceName: w, ", "DaemonSet": ""} {
		ns := box.Namespace(t)
		if _, err := box.Clientset.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		in := real(t, ns, values(map[string]any{"a": "one"}))
		in.With["timeout"] = "6s"
		if f := fails(t, chart(kind, more), in, "HELM-05"); f.Fields["workload"] != kind+" "+ns+"/w" || !strings.Contains(f.Fields["reason"], `violates PodSecurity "restricted:latest"`) {
			t.Errorf("%+v", f)
		}
	}
}

// TestRealClaims: a claim without a volume says why, on its own and as what a pod
// waits for.
func TestRealClaims(t *testing.T) {
	claim := "accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}"
	for name, c := range map[string]struct{ object, workload, says string }{
		"none":    {thing("v1", "PersistentVolumeClaim", "name: p", "spec: {"+claim+"}"), "PersistentVolumeClaim %s/p", "it names no StorageClass, and the cluster has no default one"},
		"unknown": {thing("v1", "PersistentVolumeClaim", "name: p", "spec: {storageClassName: fast, "+claim+"}"), "PersistentVolumeClaim %s/p", `"fast" not found`},
		"of a pod": {
			thing("apps/v1", "StatefulSet", "name: w", "spec: {serviceName: w, selector: {matchLabels: {a: c}}, template: "+pods("")+", volumeClaimTemplates: [{metadata: {name: d}, spec: {"+claim+"}}]}"),
			"StatefulSet %s/w", "PersistentVolumeClaim d-w-0: no volume is bound to it, it is Pending: it names no StorageClass",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := box.Namespace(t)
			in := real(t, ns, map[string]any{"timeout": "6s"})
			if f := fails(t, carry(t, odd(map[string]string{"a.yaml": c.object}), ""), in, "HELM-05"); f.Fields["workload"] != fmt.Sprintf(c.workload, ns) || !strings.Contains(f.Fields["reason"], c.says) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestRealNames: a type that wants names which another type of its group has is
// told of with both, before anything is made.
func TestRealNames(t *testing.T) {
	const group = "names.test"
	dropTypes(t, group)
	ns := box.Namespace(t)
	must(t, carry(t, dirTypes(group, "1.0.0", "a gadget"), ""), real(t, ns, nil))
	files := dirTypes(group, "1.0.0", "a widget")
	files["crds/g.yaml"] = strings.ReplaceAll(files["crds/g.yaml"], "gadgets", "widgets")
	in := real(t, ns, map[string]any{"release": "other"})
	refusal(t, carry(t, files, ""), in, "HELM-11", "CustomResourceDefinition widgets."+group+": kind Gadget, ", " belongs to CustomResourceDefinition gadgets."+group)
	if got := revisionsOf(t, ns); got != "sh.helm.release.v1.prod.v1" {
		t.Errorf("releases: %s", got)
	}
	if _, err := dynamicClient(t).Resource(typesOf).Get(t.Context(), "widgets."+group, metav1.GetOptions{}); err == nil {
		t.Error("the type was made")
	}
}
