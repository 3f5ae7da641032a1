package helm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
)

// TestGitOpsObjects: what a tree holds needs no Helm.
func TestGitOpsObjects(t *testing.T) {
	files := demoChart()
	in := input(t, map[string]any{"create_namespace": true})
	if _, err := manifestsOf(t.Context(), carry(t, files, "{}"), in); err == nil || !strings.Contains(err.Error(), "random data") {
		t.Errorf("random data: %v", err)
	}
	delete(files, "templates/random.yaml")
	files["templates/hook.yaml"] = strings.Replace(hook, "  backoffLimit: 0\n", "  backoffLimit: 0\n  ttlSecondsAfterFinished: 10\n", 1)
	files["templates/hook.yaml"] = strings.Replace(files["templates/hook.yaml"], `pre-upgrade"}`, `pre-upgrade", helm.sh/hook-weight: "1", helm.sh/hook-delete-policy: hook-failed, helm.sh/hook-output-log-policy: hook-failed}`, 1)
	files["templates/list.yaml"] = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: two}}\n"
	b := carry(t, files, "{}")
	list, err := manifestsOf(t.Context(), b, in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := manifestsOf(t.Context(), b, in)
	if err != nil || !reflect.DeepEqual(list, again) {
		t.Errorf("a second time: other objects, %v", err)
	}
	seen := make(map[string]install.Manifest)
	group := 0
	for i, m := range list {
		seen[m.Object().Kind+" "+m.Object().Name] = m
		if m.Group < group {
			t.Errorf("%s is out of order", m.Object())
		}
		group = m.Group
		if i == 0 && m.Object().Kind != "Namespace" {
			t.Errorf("%s before the namespace", m.Object())
		}
		notes, _ := metadata(m.Tree)["annotations"].(map[string]any)
		for k := range notes {
			if strings.HasPrefix(k, helmHook) {
				t.Errorf("%s has %s", m.Object(), k)
			}
		}
		if i > 0 && notes[annotationRelease] == nil {
			t.Errorf("%s does not name its release", m.Object())
		}
	}
	for _, want := range []string{"ConfigMap one", "ConfigMap two", "CustomResourceDefinition gadgets.demo.test"} {
		if seen[want].Tree == nil {
			t.Errorf("no %s", want)
		}
	}
	release := in.With["release"].(string)
	job, web := seen["Job "+release+"-migrate"], seen["Deployment "+release]
	if job.Tree == nil || web.Tree == nil || job.Group >= web.Group {
		t.Fatalf("the hook does not come before: %d, %d", job.Group, web.Group)
	}
	notes := metadata(job.Tree)["annotations"].(map[string]any)
	if notes[annotationHook] != "pre-install,pre-upgrade" || notes["kustomize.toolkit.fluxcd.io/force"] != "enabled" || job.Tree["spec"].(map[string]any)["ttlSecondsAfterFinished"] != nil {
		t.Errorf("%v", job.Tree)
	}
	// Before the images were mirrored, the plan tells the same objects.
	for _, value := range []any{later, nil} {
		in.With["map"] = value
		in.Preview = true
		before, err := manifestsOf(t.Context(), b, in)
		if err != nil || len(before) != len(list) || !strings.Contains(mustJSON(t, before), `"quay.io`) {
			t.Errorf("with no map yet: %d objects, %v", len(before), err)
		}
		in.Preview = false
		if _, err := manifestsOf(t.Context(), b, in); err == nil {
			t.Error("a tree has images that are not mirrored")
		}
	}
	if raw := mustJSON(t, list); strings.Contains(raw, `"quay.io`) || !strings.Contains(raw, "@sha256:") {
		t.Error("an image is not from the enclave's registry")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestAppliedPages finds the one workload of a release that is not ready, whatever
// page of the list it is on.
func TestAppliedPages(t *testing.T) {
	srv := kubetest.Start(t)
	const all = 2500
	workload := func(i int) map[string]any {
		md := map[string]any{"name": fmt.Sprint("w", i), "namespace": "n"}
		if i%1000 == 7 {
			md["annotations"] = map[string]any{annotationRelease: "demo"}
		}
		return map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": md}
	}
	srv.Handle("GET /apis/apps/v1/namespaces/n/deployments", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		items, meta := []any{}, map[string]any{}
		for i := from; i < min(from+limit, all); i++ {
			items = append(items, workload(i))
		}
		if from+limit < all {
			meta["continue"] = strconv.Itoa(from + limit)
		}
		kubetest.Answer(w, 200, map[string]any{"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": meta, "items": items})
	})
	for i := 7; i < all; i += 1000 {
		o := workload(i)
		o["spec"] = map[string]any{"replicas": 1, "selector": map[string]any{}}
		o["status"] = map[string]any{"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
		if i == 2007 {
			o["status"] = map[string]any{"updatedReplicas": 1, "replicas": 1}
		}
		srv.Put(o)
	}
	in := install.Input{GitOps: true, With: map[string]any{"kubeconfig": srv.Kubeconfig, "release": "demo", "namespace": "n"}}
	res, err := Status{}.Run(t.Context(), in)
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Fields["reason"] != "Deployment w2007: 0 of 1 pods are available" {
		t.Errorf("%+v, %v", res, err)
	}
}
