//go:build all

package helm

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/cluster"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// untouched is whether a namespace has no release and none of the objects of odd
// charts.
func untouched(t *testing.T, ns string) {
	t.Helper()
	if list := stock(t, ns, "list", "--all", "-q"); list != "" {
		t.Errorf("a release: %s", list)
	}
	list, err := box.Clientset.CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Items {
		if strings.HasPrefix(o.Name, "made") {
			t.Errorf("ConfigMap %s was made", o.Name)
		}
	}
}

// refusal plans and applies and expects the same refusal, before anything is made.
func refusal(t *testing.T, b *carried, in install.Input, code string, says ...string) {
	t.Helper()
	_, err := Action{}.plan(t.Context(), b, in)
	f := fails(t, b, in, code)
	for _, text := range says {
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(f.Detail, text) {
			t.Errorf("no %q: plan says %v, the run %s", text, err, f.Detail)
		}
	}
}

// TestRealRefused has a pre-install hook, which would be the first to be made, and
// one object that the server, or Helm, would refuse.
func TestRealRefused(t *testing.T) {
	hook := thing("v1", "ConfigMap", "name: made-by-hook, annotations: {helm.sh/hook: pre-install}", "") + config("made", "")
	for name, c := range map[string]struct {
		object string
		code   string
		says   string
	}{
		"above a MiB":      {config("made-big", "data: {x: {{ repeat 1100000 \"y\" | quote }}}"), "K8S-09", "/made-big: "},
		"above all":        {config("made-big", "data: {x: {{ repeat 5000000 \"y\" | quote }}}"), "K8S-09", "Request entity too large"},
		"label":            {thing("v1", "ConfigMap", `name: made-bad, labels: {a: "{{ .Values.password }}"}`, ""), "K8S-09", `Invalid value: "(not shown)"`},
		"name":             {config(`"made\e[31m"`, ""), "K8S-09", "metadata.name"},
		"no name":          {thing("v1", "ConfigMap", "", ""), "K8S-09", "ConfigMap of demo/templates/b.yaml: it has no name"},
		"made-up name":     {thing("v1", "ConfigMap", "generateName: made-, annotations: {helm.sh/hook: pre-install}", ""), "K8S-09", "it has no name"},
		"number":           {thing("v1", "Service", "name: made", "spec: {ports: [{port: 70000}]}"), "K8S-09", "spec.ports[0].port"},
		"kind":             {thing("none.test/v1", "Thing", "name: made", ""), "K8S-10", "Thing"},
		"namespace":        {thing("v1", "ConfigMap", "name: made, namespace: not-there", ""), "NS-01", "not-there"},
		"own namespace":    {thing("v1", "Namespace", "name: {{ .Release.Namespace }}", ""), "HELM-11", "no release of Helm has made it"},
		"hook for its own": {thing("v1", "Namespace", "name: {{ .Release.Namespace }}, annotations: {helm.sh/hook: pre-delete}", ""), "HELM-11", "Helm would remove it"},
		"hook for another": {thing("v1", "ConfigMap", "name: precious, annotations: {helm.sh/hook: post-install}", ""), "HELM-11", "/precious: it is there and no hook"},
		"of another":       {config("precious", ""), "HELM-11", "/precious: it is there"},
		"of a release":     {config("released", ""), "HELM-11", "/released: it is of release x in namespace y"},
	} {
		t.Run(name, func(t *testing.T) {
			ns := box.Namespace(t)
			for name, notes := range map[string]map[string]string{"precious": nil, "released": {annotationName: "x", annotationNamespace: "y"}} {
				if _, err := box.Clientset.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: notes}}, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			refusal(t, carry(t, odd(map[string]string{"a.yaml": hook, "b.yaml": c.object}), ""), real(t, ns, values(map[string]any{"password": "geheim!!xx"})), c.code, c.says)
			untouched(t, ns)
		})
	}
}

// TestRealRights tells all that a tenant may not, before anything is made.
func TestRealRights(t *testing.T) {
	ns := box.Namespace(t)
	user := box.UserIn(t, "tenant", ns, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps", "secrets"}, Verbs: []string{"*"}})
	b := carry(t, odd(map[string]string{"a.yaml": config("made", "") + thing("v1", "ConfigMap", "name: made, namespace: kube-system", "") +
		thing("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "name: made-boss", "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}")}), "")
	res, err := Action{}.apply(t.Context(), b, real(t, ns, map[string]any{"kubeconfig": user}))
	if err != nil || len(res.Findings) != 2 || res.Findings[0].Fields["namespace"] != "kube-system" || res.Findings[1].Fields["resource"] != "clusterrolebindings.rbac.authorization.k8s.io" {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	untouched(t, ns)
}

// TestRealImmutable sees before an upgrade what cannot be changed, and lets pass
// what Helm can do.
func TestRealImmutable(t *testing.T) {
	ns := box.Namespace(t)
	text := thing("apps/v1", "StatefulSet", "name: s", `spec:
  serviceName: one
  replicas: 0
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: "quay.io/demo/web:1"}]}}
  volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]`) +
		thing("apps/v1", "Deployment", "name: d", `spec:
  replicas: 0
  strategy: {rollingUpdate: {maxSurge: 1}}
  selector: {matchLabels: {a: c}}
  template: {metadata: {labels: {a: c}}, spec: {volumes: [{name: v, emptyDir: {}}], containers: [{name: a, image: "quay.io/demo/web:1", env: [{name: A, value: x}, {name: A, value: z}]}]}}`) +
		thing("v1", "Service", "name: s", "spec: {selector: {a: b}, type: NodePort, ports: [{port: 80}]}") +
		thing("demo.test/v1", "Gadget", "name: g", "spec: {a: 1, b: 2}")
	with := func(change ...string) *carried {
		files := odd(map[string]string{"a.yaml": strings.NewReplacer(change...).Replace(text)})
		files["crds/gadgets.yaml"] = gadgets("a gadget")
		return carry(t, files, "")
	}
	in := real(t, ns, nil)
	must(t, with(), in)
	if !nothing(t, with(), in) {
		t.Error("something to do after it was done")
	}
	refusal(t, with("serviceName: one", "serviceName: two"), in, "K8S-09", "StatefulSet "+ns+"/s: ", "spec.serviceName")
	refusal(t, with("{a: c}", "{a: e}"), in, "K8S-09", "Deployment "+ns+"/d: ", "spec.selector")
	wantRevisions(t, ns, "1 deployed")
	must(t, with("emptyDir: {}", "configMap: {name: x, optional: true}", "{rollingUpdate: {maxSurge: 1}}", "{type: Recreate}", "port: 80", "port: 81", "{name: A, value: x}, ", "", ", b: 2", ""), in)
	wantRevisions(t, ns, "1 superseded", "2 deployed")
	if !nothing(t, with("emptyDir: {}", "configMap: {name: x, optional: true}", "{rollingUpdate: {maxSurge: 1}}", "{type: Recreate}", "port: 80", "port: 81", "{name: A, value: x}, ", "", ", b: 2", ""), in) {
		t.Error("something to do after it was done")
	}
}

// TestRealHookData keeps what a hook of an earlier revision holds.
func TestRealHookData(t *testing.T) {
	ns, other := box.Namespace(t), "airlock-hook-made"
	claim := thing("v1", "PersistentVolumeClaim", "name: data, annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}", "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}") +
		thing("v1", "Namespace", "name: "+other+", annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}", "")
	b := func(size string) *carried {
		return carry(t, odd(map[string]string{"a.yaml": config("a", "data: {size: '"+size+"'}"), "h.yaml": claim}), "")
	}
	t.Cleanup(func() {
		_ = box.Clientset.CoreV1().Namespaces().Delete(context.Background(), other, metav1.DeleteOptions{}) // not made if the test failed before
	})
	must(t, b("1"), real(t, ns, nil))
	refusal(t, b("2"), real(t, ns, nil), "HELM-11", "Namespace "+other+": it is there; for the hook of that name Helm would remove it with all that is in it")
	if _, err := (Action{}).plan(t.Context(), b("2"), real(t, ns, nil)); err == nil || !strings.Contains(err.Error(), "PersistentVolumeClaim "+ns+"/data: it is there;") {
		t.Errorf("it ended with %v", err)
	}
	wantRevisions(t, ns, "1 deployed")
	// Only at installation: the upgrade leaves it alone.
	claim = strings.ReplaceAll(claim, ",pre-upgrade", "")
	must(t, b("3"), real(t, ns, nil))
}

// endlessHook is a Job that never ends.
func endlessHook(event string) string {
	return thing("batch/v1", "Job", "name: h, annotations: {helm.sh/hook: "+event+"}", `spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {`+cluster.OutcomeAnnotation+`: "`+string(cluster.NeverReady)+`"}}
    spec: {restartPolicy: Never, containers: [{name: a, image: "quay.io/demo/tool:2"}]}`)
}

// TestRealHooksEnd has hooks that never do.
func TestRealHooksEnd(t *testing.T) {
	ns := box.Namespace(t)
	in := real(t, ns, nil)
	in.With["timeout"] = "4s"
	for _, event := range []string{"pre-install", "post-install"} {
		begin := time.Now()
		f := fails(t, carry(t, odd(map[string]string{"a.yaml": config("made", ""), "h.yaml": endlessHook(event)}), ""), in, "HELM-05")
		if d := time.Since(begin); d > 40*time.Second || f.Fields["workload"] != "Job "+ns+"/h" {
			t.Errorf("%s: after %s: %+v", event, d, f)
		}
		untouched(t, ns)
	}
	// A hook of removal says something only then.
	generated := thing("v1", "ConfigMap", "generateName: g-, annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-failed}", "")
	must(t, carry(t, odd(map[string]string{"a.yaml": config("made", ""), "h.yaml": endlessHook("post-delete") + generated}), ""), in)
	_, err := Uninstall(t.Context(), Removal{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns, Timeout: 3 * time.Second})
	if err == nil || !strings.Contains(err.Error(), notEnded) {
		t.Errorf("it ended with %v", err)
	}
	untouched(t, ns)
}

// TestRealForeignRecord has Secrets that look like revisions.
func TestRealForeignRecord(t *testing.T) {
	ns := box.Namespace(t)
	b, in := carry(t, odd(map[string]string{"a.yaml": config("made", "")}), ""), real(t, ns, nil)
	_, err := box.Clientset.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "sh.helm.release.v1.prod.v7", Labels: map[string]string{"owner": "helm", "name": "prod", "version": "7", "status": "deployed"}},
		Type:       "helm.sh/release.v1", Data: map[string][]byte{"release": []byte("garbage")},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := Action{}.plan(t.Context(), b, in)
	_, err2 := Action{}.apply(t.Context(), b, in)
	_, err3 := Uninstall(t.Context(), Removal{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns})
	_, err4 := Status{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": box.Kubeconfig, "release": "prod", "namespace": ns}})
	for _, err := range []error{err1, err2, err3, err4} {
		if err == nil || !strings.Contains(err.Error(), "Secret "+ns+"/sh.helm.release.v1.prod.v7: it has the labels of a revision of a Helm release, and no release in it") {
			t.Errorf("it ended with %v", err)
		}
	}
	untouched(t, ns)
}

// TestRealLookupForeign tells what templates read of other namespaces.
func TestRealLookupForeign(t *testing.T) {
	ns := box.Namespace(t)
	b := carry(t, odd(map[string]string{"a.yaml": config("a", `data:
  one: {{ (lookup "v1" "ConfigMap" "kube-system" "extension-apiserver-authentication").metadata.name | quote }}
  all: {{ lookup "v1" "Secret" "" "" | len | quote }}
  some: {{ lookup "v1" "Secret" "kube-system" "" | len | quote }}
  own: {{ lookup "v1" "Secret" .Release.Namespace "x" | len | quote }}
  none: {{ lookup "v1" "Namespace" "" "default" | len | quote }}
  name: {{ getHostByName "localhost" | quote }}`)}), "")
	c, err := Action{}.plan(t.Context(), b, real(t, ns, nil))
	if err != nil || c.Details[len(c.Details)-1] != "careful: its templates read ConfigMap kube-system/extension-apiserver-authentication, Secret */*, Secret kube-system/*" {
		t.Errorf("%q, %v", c.Details, err)
	}
	must(t, b, real(t, ns, nil))
	o, err := box.Clientset.CoreV1().ConfigMaps(ns).Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || o.Data["one"] != "extension-apiserver-authentication" || o.Data["name"] != "" {
		t.Errorf("%v, %v", o.Data, err)
	}
}

// TestRealMany has a thousand objects, and ends with its context.
func TestRealMany(t *testing.T) {
	ns := box.Namespace(t)
	many := func(n int) *carried {
		return carry(t, odd(map[string]string{"a.yaml": fmt.Sprintf("{{ range until %d }}\n", n) + config(`"made{{ . }}"`, "") + "{{ end }}\n"}), "")
	}
	in := real(t, ns, map[string]any{"timeout": "5m"})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	begin := time.Now()
	if _, err := (Action{}).apply(ctx, many(9999), in); err == nil {
		t.Error("no error")
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("it ended %s later than it had to", d-3*time.Second)
	}
	untouched(t, ns)
	if _, err := (Action{}).plan(t.Context(), many(10_000), in); err == nil || !strings.Contains(err.Error(), "more than 9999 objects") {
		t.Errorf("it ended with %v", err)
	}
	must(t, many(1000), in)
	if !nothing(t, many(1000), in) {
		t.Error("something to do after it was done")
	}
}

// TestRealOutside takes everything away again that a release had elsewhere.
func TestRealOutside(t *testing.T) {
	ns := box.Namespace(t)
	b := carry(t, odd(map[string]string{"a.yaml": config("a", "") + thing("v1", "Namespace", "name: "+ns+"-more", "") + thing("v1", "ConfigMap", "name: inner, namespace: "+ns+"-more", "") +
		thing("scheduling.k8s.io/v1", "PriorityClass", "name: "+ns, "value: 1") + thing("rbac.authorization.k8s.io/v1", "ClusterRole", "name: "+ns, "rules: []") +
		thing("apiregistration.k8s.io/v1", "APIService", "name: v1.outside.test", "spec: {group: outside.test, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {name: a, namespace: default}}") +
		thing("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "name: "+ns, "webhooks: []")}), "")
	in := real(t, ns, nil)
	must(t, b, in)
	if !nothing(t, b, in) {
		t.Error("something to do after it was done")
	}
	if _, err := Uninstall(t.Context(), Removal{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns, Timeout: time.Minute}); err != nil {
		t.Error(err)
	}
	if _, err := box.Clientset.SchedulingV1().PriorityClasses().Get(t.Context(), ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("left: %v", err)
	}
	// A revision that cannot be undone either says so, and history has it.
	with := func(data string, more map[string]any) install.Input {
		in := real(t, ns, values(map[string]any{"data": data}))
		maps.Copy(in.With, more)
		return in
	}
	b = carry(t, odd(map[string]string{
		"a.yaml": config("a", "data: {a: {{ .Values.data | quote }}}"),
		"h.yaml": thing("batch/v1", "Job", "name: h, annotations: {helm.sh/hook: 'post-upgrade,pre-rollback'}", `spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {`+cluster.OutcomeAnnotation+`: "`+string(cluster.Fail)+`"}}
    spec: {restartPolicy: Never, containers: [{name: a, image: "quay.io/demo/tool:2"}]}`),
	}), "")
	must(t, b, with("one", nil))
	res, err := Action{}.apply(t.Context(), b, with("two", map[string]any{"timeout": "8s"}))
	if text := fmt.Sprint(res.Findings); err != nil || !strings.Contains(text, "HELM-03") || !strings.Contains(text, "not rolled back to revision 1") {
		t.Errorf("%s, %v", text, err)
	}
	if got := revisions(t, ns); len(got) < 2 || !strings.HasPrefix(got[1], "2 failed") {
		t.Errorf("helm history: %q", got)
	}
}

// whenHooked calls stop when a hook's Job of a namespace is at work, and hands on
// when that was.
func whenHooked(t *testing.T, ns string, stop func()) <-chan time.Time {
	t.Helper()
	watch, err := box.Clientset.BatchV1().Jobs(ns).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watch.Stop)
	at := make(chan time.Time, 1)
	go func() {
		for e := range watch.ResultChan() {
			if j, ok := e.Object.(*batchv1.Job); ok && j.Status.Active > 0 {
				break
			}
		}
		at <- time.Now()
		stop()
	}()
	return at
}

// TestRealHookCancelled ends with its context while Helm watches a hook.
func TestRealHookCancelled(t *testing.T) {
	ns := box.Namespace(t)
	b := carry(t, odd(map[string]string{"a.yaml": config("made", ""), "h.yaml": endlessHook("pre-install")}), "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := whenHooked(t, ns, cancel)
	if _, err := (Action{}).apply(ctx, b, real(t, ns, map[string]any{"timeout": "5m"})); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("it ended with %v", err)
	}
	if d := time.Since(<-ended); d > 20*time.Second {
		t.Errorf("it went on for %s", d)
	}
	must(t, carry(t, odd(map[string]string{"a.yaml": config("made", "")}), ""), real(t, ns, nil))
	wantRevisions(t, ns, "1 deployed")
}
