package kube

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func deployment(s *kubetest.Server, began time.Time, annotations map[string]any) {
	labels := map[string]any{"app": "web"}
	env := []any{map[string]any{"secretRef": map[string]any{"name": "settings"}}}
	s.Put(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web", "namespace": "n", "generation": 1},
		"spec": map[string]any{"replicas": 1, "selector": map[string]any{"matchLabels": labels}, "template": map[string]any{
			"metadata": map[string]any{"labels": labels, "annotations": annotations}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "envFrom": env}}},
		}},
		"status": map[string]any{"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
	}, map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web-1", "namespace": "n", "labels": labels},
		"status": map[string]any{"containerStatuses": []any{map[string]any{"name": "c", "state": map[string]any{"running": map[string]any{"startedAt": began.UTC().Format(time.RFC3339)}}}}},
	})
}

func TestRestart(t *testing.T) {
	s := kubetest.Start(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	secret := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
		"name": "settings", "namespace": "n", "creationTimestamp": at.Add(-time.Hour).Format(time.RFC3339),
		"managedFields": []any{map[string]any{"manager": "airlock", "time": at.Format(time.RFC3339), "fieldsV1": map[string]any{"f:data": map[string]any{}}}},
	}, "data": map[string]any{"A": base64Of([]byte(password))}}
	s.Put(secret)
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "deployments": []any{"web"}, "wait": "1s"}}
	deployment(s, at.Add(time.Second), nil)
	if plan, err := (Restart{}).Plan(t.Context(), in); err != nil || !plan.Nothing {
		t.Errorf("newer pods: %+v, %v", plan, err)
	}
	deployment(s, at.Add(-time.Second), nil)
	if plan, err := (Restart{}).Plan(t.Context(), in); err != nil || plan.Nothing || !strings.Contains(plan.Details[0], "pod web-1 started before settings changed") {
		t.Errorf("older pods: %+v, %v", plan, err)
	}
	res, err := Restart{}.Apply(t.Context(), in)
	check(t, "restart", Restart{}, res, err)
	raw, _ := json.Marshal(s.Object("/apis/apps/v1/namespaces/n/deployments/web"))
	if !res.Changed || !strings.Contains(string(raw), cluster.AnnotationSecrets) {
		t.Errorf("%+v: %s", res, raw)
	}
	// The pods are as old as before, but the hashes are those of now.
	res, err = Restart{}.Apply(t.Context(), in)
	check(t, "again", Restart{}, res, err)
	if res.Changed {
		t.Error("it restarts twice")
	}
	secret["data"] = map[string]any{"A": ""}
	s.Put(secret)
	if plan, err := (Restart{}).Plan(t.Context(), in); err != nil || plan.Nothing || !strings.Contains(plan.Details[0], "changed since its pods started: settings") {
		t.Errorf("another content: %+v, %v", plan, err)
	}
	// A Secret that is as it was made was there when what needs it started.
	first := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "settings", "namespace": "n", "creationTimestamp": at.Format(time.RFC3339)}, "data": secret["data"]}
	for began, want := range map[time.Time]bool{at: true, at.Add(-time.Second): false} {
		s.Put(first)
		deployment(s, began, nil)
		if plan, err := (Restart{}).Plan(t.Context(), in); err != nil || plan.Nothing != want {
			t.Errorf("made at %s, began at %s: %+v, %v", at, began, plan, err)
		}
	}
	s.Put(secret)
	deployment(s, at.Add(-time.Second), map[string]any{cluster.AnnotationSecrets: "settings=sha256:0"})
	// An upgrade has made the pods anew since: the mark is of the old ones.
	s.Put(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web-1", "namespace": "n", "labels": map[string]any{"app": "web"}, "creationTimestamp": at.Add(time.Second).Format(time.RFC3339)},
		"status": map[string]any{"containerStatuses": []any{map[string]any{"name": "c", "state": map[string]any{"running": map[string]any{"startedAt": at.Add(-time.Second).Format(time.RFC3339)}}}}},
	})
	if plan, err := (Restart{}).Plan(t.Context(), in); err != nil || !plan.Nothing {
		t.Errorf("made anew: %+v, %v", plan, err)
	}
	in.With["optional"] = []any{"nothing"}
	res, err = Restart{}.Apply(t.Context(), in)
	check(t, "an optional one is not there", Restart{}, res, err)
	in.With["deployments"] = []any{"nothing"}
	res, err = Restart{}.Apply(t.Context(), in)
	check(t, "nothing there", Restart{}, res, err, "RST-01")
}

// TestRestartInOrder: what does not come up stops the rest, and people are told
// before.
func TestRestartInOrder(t *testing.T) {
	s := kubetest.Start(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "settings", "namespace": "n", "creationTimestamp": at.Format(time.RFC3339)}, "data": map[string]any{"A": ""}})
	deployment(s, at.Add(-time.Hour), nil)
	stuck := s.Object("/apis/apps/v1/namespaces/n/deployments/web")
	raw, err := json.Marshal(stuck)
	if err != nil {
		t.Fatal(err)
	}
	var second map[string]any
	if err := json.Unmarshal(raw, &second); err != nil {
		t.Fatal(err)
	}
	second["metadata"].(map[string]any)["name"] = "worker"
	stuck["status"] = map[string]any{"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
	s.Put(stuck, second)
	var told install.Change
	in := install.Input{Announce: func(c install.Change) { told = c }, With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "deployments": []any{"web"}, "optional": []any{"worker"}, "wait": "1ms"}}
	res, err := Restart{}.Apply(t.Context(), in)
	check(t, "stuck", Restart{}, res, err, "RST-01")
	if !res.Changed || len(told.Details) != 2 || !strings.Contains(told.Details[1], "worker") {
		t.Errorf("%+v, told %+v", res, told)
	}
	for name, want := range map[string]bool{"web": true, "worker": false} {
		raw, err := json.Marshal(s.Object("/apis/apps/v1/namespaces/n/deployments/" + name))
		if err != nil || strings.Contains(string(raw), cluster.AnnotationRestarted) != want {
			t.Errorf("%s is restarted, or not: %s, %v", name, raw, err)
		}
	}
}

// TestRestartStuck: time is up, and the pods say why.
func TestRestartStuck(t *testing.T) {
	s := kubetest.Start(t)
	deployment(s, time.Now(), nil)
	d := s.Object("/apis/apps/v1/namespaces/n/deployments/web")
	d["status"] = map[string]any{"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
	s.Put(d, map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web-1", "namespace": "n", "labels": map[string]any{"app": "web"}},
		"status": map[string]any{"containerStatuses": []any{map[string]any{"name": "c", "image": "reg/x:1", "state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "not found"}}}}},
	})
	res, err := Restart{}.Apply(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "deployments": []any{"web"}, "wait": "1ms", "codes": map[string]any{"RST-01": "DIS-01"}}})
	check(t, "stuck", Restart{}, res, err, "DIS-01")
	if len(res.Findings) == 1 && !strings.Contains(res.Findings[0].Fields["reason"], "ImagePullBackOff reg/x:1") {
		t.Errorf("%+v", res.Findings)
	}
}

// TestEnvironment: secrets of init containers count, which may be migrations.
func TestEnvironment(t *testing.T) {
	from := func(name string) []corev1.EnvFromSource {
		return []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}
	}
	key := []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}}}}
	spec := &corev1.PodSpec{InitContainers: []corev1.Container{{EnvFrom: from("init")}}, Containers: []corev1.Container{{EnvFrom: from("main"), Env: key}}}
	if d := cmp.Diff([]string{"init", "key", "main"}, environment(spec)); d != "" {
		t.Error(d)
	}
}

// recorded are the objects that a result puts into the record.
