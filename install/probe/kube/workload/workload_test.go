package workload

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	"github.com/google/go-cmp/cmp"
)

const (
	password = "correct-horse-battery"
	digest   = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
)

func run(t *testing.T, s *kubetest.Server, name string, with map[string]any, want ...string) install.Result {
	t.Helper()
	with = maps.Clone(with)
	with["kubeconfig"], with["namespace"] = s.Kubeconfig, "n"
	res, err := Probe{}.Run(t.Context(), install.Input{With: with})
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	got := []string{}
	for _, f := range res.Findings {
		got = append(got, f.Code)
		for field := range f.Fields {
			if !slices.Contains(Probe{}.Codes()[f.Code], field) {
				t.Errorf("%s: field %s is not listed with %s", name, field, f.Code)
			}
		}
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		t.Errorf("%s: %s\n%+v", name, d, res.Findings)
	}
	if raw, err := json.Marshal(res); err != nil || strings.Contains(string(raw), password) || strings.Contains(string(raw), kubetest.Token) {
		t.Errorf("%s: a secret shows in %s", name, raw)
	}
	return res
}

func deployment(name string, available int) map[string]any {
	labels := map[string]any{"app": name}
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name, "namespace": "n", "generation": 2},
		"spec":   map[string]any{"replicas": 2, "selector": map[string]any{"matchLabels": labels}},
		"status": map[string]any{"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available},
	}
}

func pod(name, app string, status map[string]any, env ...any) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod", "status": status,
		"metadata": map[string]any{"name": name, "namespace": "n", "labels": map[string]any{"app": app, "pod-template-hash": "5f"}, "ownerReferences": []any{
			map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app + "-5f", "uid": "1", "controller": true},
		}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "envFrom": env}}},
	}
}

func waiting(reason, message string) map[string]any {
	return map[string]any{"containerStatuses": []any{map[string]any{"name": "c", "image": "reg/x:1", "state": map[string]any{"waiting": map[string]any{"reason": reason, "message": message}}}}}
}

func running(imageID string, restarts int, at string) map[string]any {
	return map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "containerStatuses": []any{
		map[string]any{"name": "c", "image": "reg/x:1", "imageID": imageID, "restartCount": restarts, "state": map[string]any{"running": map[string]any{"startedAt": at}}},
	}}
}

func TestWorkloads(t *testing.T) {
	s := kubetest.Start(t)
	s.Handle("GET /api/v1/namespaces/n/pods/crash-1/log", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("starting\nfailed to connect to `host=db`: connection refused\nbye\n"))
	})
	s.Put(deployment("up", 2), pod("up-1", "up", running("reg/x@"+digest, 3, "2026-01-01T00:00:00Z")),
		deployment("pull", 0), pod("pull-1", "pull", waiting("ImagePullBackOff", "not found")), pod("pull-2", "pull", waiting("ImagePullBackOff", "not found")),
		deployment("config", 0), pod("config-1", "config", waiting("CreateContainerConfigError", "couldn't find key A in Secret n/s")),
		deployment("crash", 1), pod("crash-1", "crash", waiting("CrashLoopBackOff", "back-off")),
		deployment("pending", 0), pod("pending-1", "pending", map[string]any{"conditions": []any{map[string]any{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "insufficient cpu"}}}),
		deployment("quiet", 1))
	classes := []any{map[string]any{"match": "licen[sc]e", "says": "the licence is not valid"}, map[string]any{"match": "connection refused", "says": "the database cannot be reached"}}
	one := func(name string) map[string]any {
		return map[string]any{"deployments": []any{name}, "classes": classes}
	}
	run(t, s, "up", one("up"))
	res := run(t, s, "pull", one("pull"), "HELM-01")
	if f := res.Findings[0].Fields; f["pod"] != "pull-1" || f["image"] != "reg/x:1" || f["ready"] != "0" || f["want"] != "2" || f["workload"] != "pull" {
		t.Errorf("%v", f)
	}
	res = run(t, s, "config", one("config"), "HELM-02")
	if !strings.Contains(res.Findings[0].Fields["reason"], "couldn't find key A") {
		t.Errorf("%+v", res.Findings)
	}
	res = run(t, s, "crash", one("crash"), "HELM-03")
	if f := res.Findings[0].Fields; f["class"] != "the database cannot be reached" || !strings.Contains(f["reason"], "connection refused") || !strings.Contains(f["log"], "bye") {
		t.Errorf("%v", f)
	}
	res = run(t, s, "pending", one("pending"), "HELM-05")
	if !strings.Contains(res.Findings[0].Fields["reason"], "insufficient cpu") {
		t.Errorf("%+v", res.Findings)
	}
	run(t, s, "no pods", one("quiet"), "HELM-05")
	res = run(t, s, "nothing", one("nothing"), "HELM-05")
	if !strings.Contains(res.Findings[0].Detail, "there is no Deployment nothing in namespace n") {
		t.Errorf("%+v", res.Findings)
	}
	run(t, s, "by digest", map[string]any{"deployments": []any{"up"}, "digest": "sha256:other", "digests": []any{digest}})
	run(t, s, "other digest", map[string]any{"deployments": []any{"up"}, "digest": "sha256:other"}, "POD-01")
	res = run(t, s, "restarts", map[string]any{"deployments": []any{"up"}, "max_restarts": 0}, "POD-02")
	if res.Findings[0].Severity != install.SeverityWarn {
		t.Errorf("%+v", res.Findings)
	}
	d := deployment("up", 2)
	d["metadata"].(map[string]any)["generation"] = 3
	s.Put(d)
	res = run(t, s, "not seen", one("up"), "HELM-05")
	if !strings.Contains(res.Findings[0].Detail, "has not seen the last change") {
		t.Errorf("%+v", res.Findings)
	}
}

// TestAsked: that a pod is available says something only where it is asked.
func TestAsked(t *testing.T) {
	s := kubetest.Start(t)
	d := deployment("web", 2)
	d["spec"].(map[string]any)["template"] = map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
		"name": "c", "ports": []any{map[string]any{"name": "instrumentation", "containerPort": 8080}},
		"readinessProbe": map[string]any{"httpGet": map[string]any{"path": "/readiness", "port": "instrumentation"}},
	}}}}
	s.Put(d)
	for name, c := range map[string]struct {
		ask  map[string]any
		want []string
	}{
		"asked":           {map[string]any{"deployment": "web", "readiness": "/readiness", "port": 8080}, nil},
		"on any port":     {map[string]any{"deployment": "web", "readiness": "/readiness"}, nil},
		"other port":      {map[string]any{"deployment": "web", "readiness": "/readiness", "port": 8081}, []string{"POD-03"}},
		"other path":      {map[string]any{"deployment": "web", "readiness": "/healthz"}, []string{"POD-03"}},
		"not at start":    {map[string]any{"deployment": "web", "startup": "/readiness"}, []string{"POD-03"}},
		"of another list": {map[string]any{"deployment": "nothing", "startup": "/startup"}, nil},
	} {
		run(t, s, name, map[string]any{"asked": []any{c.ask}}, c.want...)
	}
}

// TestServices: a Service leads to pods that are ready, or it leads nowhere.
func TestServices(t *testing.T) {
	s := kubetest.Start(t)
	service := func(name string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name, "namespace": "n"}, "spec": map[string]any{
			"selector": map[string]any{"app": name}, "ports": []any{map[string]any{"port": 1984}},
		}}
	}
	slice := func(name string, ready bool) map[string]any {
		return map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": map[string]any{"name": name + "-x", "namespace": "n", "labels": map[string]any{"kubernetes.io/service-name": name}},
			"addressType": "IPv4", "ports": []any{map[string]any{"port": 1984}},
			"endpoints": []any{map[string]any{"addresses": []any{"10.0.0.1"}, "conditions": map[string]any{"ready": ready}}},
		}
	}
	s.Put(service("up"), slice("up", true), service("down"), slice("down", false), service("alone"))
	for name, c := range map[string]struct {
		service any
		says    string
	}{
		"up":          {"up", ""},
		"its port":    {map[string]any{"name": "up", "port": 1984}, ""},
		"other port":  {map[string]any{"name": "up", "port": 1883}, "no port 1883"},
		"not ready":   {"down", "no endpoint that is ready"},
		"no slice":    {"alone", "no endpoint that is ready"},
		"not a thing": {"nothing", "does not exist"},
	} {
		var want []string
		if c.says != "" {
			want = []string{"SVC-01"}
		}
		res := run(t, s, name, map[string]any{"services": []any{c.service}}, want...)
		if c.says != "" && !strings.Contains(res.Findings[0].Fields["reason"], c.says) {
			t.Errorf("%s: %+v", name, res.Findings)
		}
	}
}

// TestServicesOfAGuest: who may not list EndpointSlices is told by the pods.
func TestServicesOfAGuest(t *testing.T) {
	s := kubetest.Start(t)
	s.Handle("GET /apis/discovery.k8s.io/v1/namespaces/n/endpointslices", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Refuse(w, http.StatusForbidden, "Forbidden", "endpointslices is forbidden")
	})
	for _, app := range []string{"up", "down"} {
		s.Put(map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": app, "namespace": "n"}, "spec": map[string]any{"selector": map[string]any{"app": app}}})
	}
	s.Put(pod("up-1", "up", running("", 0, "2026-01-03T00:00:00Z")), pod("down-1", "down", waiting("CrashLoopBackOff", "back-off")))
	run(t, s, "up", map[string]any{"services": []any{"up"}})
	run(t, s, "down", map[string]any{"services": []any{"down"}}, "SVC-01")
}

func TestSecrets(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"A": "eA==", "EMPTY": ""},
		"metadata": map[string]any{"name": "settings", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": []any{
			map[string]any{"manager": "m", "time": "2026-01-02T00:00:00Z", "fieldsV1": map[string]any{"f:data": map[string]any{}}},
			map[string]any{"manager": "l", "time": "2026-01-05T00:00:00Z", "fieldsV1": map[string]any{"f:metadata": map[string]any{}}},
		}},
	})
	reads := map[string]any{"secretRef": map[string]any{"name": "settings"}}
	s.Put(pod("new-1", "new", running("", 0, "2026-01-03T00:00:00Z"), reads), pod("other-1", "other", running("", 0, "2026-01-01T00:00:00Z")))
	run(t, s, "good", map[string]any{"secrets": []any{"settings", map[string]any{"name": "settings", "keys": []any{"A"}}}})
	res := run(t, s, "keys", map[string]any{"secrets": []any{map[string]any{"name": "settings", "keys": []any{"A", "EMPTY", "B"}, "type": "MinIO"}}}, "SEC-01")
	if f := res.Findings[0].Fields; f["key"] != "EMPTY, B" || f["type"] != "MinIO" || f["secret"] != "settings" {
		t.Errorf("%v", f)
	}
	run(t, s, "none", map[string]any{"secrets": []any{"nothing"}}, "SEC-01")
	s.Put(pod("old-1", "old", running("", 0, "2026-01-01T12:00:00Z"), reads), pod("old-2", "old", running("", 0, "2026-01-01T12:00:00Z"), reads))
	res = run(t, s, "stale", map[string]any{"secrets": []any{"settings"}}, "SEC-04")
	if f := res.Findings[0].Fields; f["workload"] != "old" || f["secret"] != "settings" || res.Findings[0].Severity != "" {
		t.Errorf("%+v", res.Findings[0])
	}
	res = run(t, s, "replaced later", map[string]any{"secrets": []any{"settings"}, "replaced": true}, "SEC-04")
	if res.Findings[0].Severity != install.SeverityWarn {
		t.Errorf("%+v", res.Findings[0])
	}
}

func TestNamespace(t *testing.T) {
	s := kubetest.Start(t)
	run(t, s, "missing", map[string]any{"active": true}, "NS-01")
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "n"}, "status": map[string]any{"phase": "Active"}},
		map[string]any{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "small", "namespace": "n"}, "status": map[string]any{
			"hard": map[string]any{"pods": "10", "requests.cpu": "2"}, "used": map[string]any{"pods": "2"},
		}})
	run(t, s, "room", map[string]any{"active": true, "quota": map[string]any{"pods": 8, "services": 100}})
	res := run(t, s, "no room", map[string]any{"quota": map[string]any{"pods": 9, "requests.cpu": "3"}}, "NS-02", "NS-02")
	if f := res.Findings[0].Fields; f["quota"] != "small" || !strings.Contains(f["reason"], "9 are needed, its limit is 10 and 2 are in use") {
		t.Errorf("%v", f)
	}
	s.Put(pod("p", "a", nil))
	run(t, s, "they run already", map[string]any{"quota": map[string]any{"pods": 9}})
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "n"}, "spec": map[string]any{"finalizers": []any{"kubernetes"}}, "status": map[string]any{"phase": "Terminating"}})
	res = run(t, s, "terminating", map[string]any{"active": true}, "NS-01")
	if f := res.Findings[0].Fields; f["phase"] != "Terminating" || f["namespace"] != "n" || !strings.Contains(f["holds"], "kubernetes") {
		t.Errorf("%v", f)
	}
}

func TestResource(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "widgets.example.org"}, "spec": map[string]any{
		"group": "example.org", "names": map[string]any{"kind": "Widget"}, "versions": []any{map[string]any{"name": "v1", "storage": true}},
	}}, map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": map[string]any{"name": "w", "namespace": "n"}, "status": map[string]any{"want": 3, "have": 2, "same": 3}},
		pod("w-1", "w", waiting("ErrImagePull", "unauthorized")))
	with := map[string]any{"kind": "Widget", "name": "w", "equal": []any{"status.want", "status.same"}, "codes": map[string]any{"RES-01": "WP-01", "HELM-01": "WP-02"}, "fields": map[string]any{"pool": "main"}}
	run(t, s, "equal", with)
	with["equal"], with["selector"] = []any{"status.want", "status.have"}, "app=w"
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{
		"kubeconfig": s.Kubeconfig, "namespace": "n", "kind": "Widget", "name": "w", "equal": with["equal"], "selector": "app=w", "codes": with["codes"], "fields": with["fields"],
	}})
	if err != nil || len(res.Findings) != 2 || res.Findings[0].Code != "WP-01" || res.Findings[1].Code != "WP-02" {
		t.Fatalf("%+v, %v", res, err)
	}
	if f := res.Findings[0].Fields; f["want"] != "3" || f["actual"] != "2" || f["pool"] != "main" || !strings.Contains(f["reason"], "unauthorized") {
		t.Errorf("%v", f)
	}
	run(t, s, "no such resource", map[string]any{"kind": "Widget", "name": "x"}, "RES-01")
	run(t, s, "no such kind", map[string]any{"kind": "Gadget", "name": "x"}, "K8S-10")
}

func TestArguments(t *testing.T) {
	s := kubetest.Start(t)
	for name, with := range map[string]map[string]any{
		"no namespace": {}, "one path": {"namespace": "n", "kind": "A", "name": "b", "equal": []any{"a"}}, "no name": {"namespace": "n", "kind": "A"},
		"fields": {"namespace": "n", "fields": map[string]any{"password": "x"}}, "class": {"namespace": "n", "classes": []any{map[string]any{"match": "("}}},
		"asked": {"namespace": "n", "asked": []any{map[string]any{"deployment": "web"}}}, "service": {"namespace": "n", "services": []any{map[string]any{"port": 1}}},
		"secrets": {"namespace": "n", "secrets": []any{map[string]any{"keyz": "x"}}}, "quota": {"namespace": "n", "quotas": map[string]any{}},
	} {
		with["kubeconfig"] = s.Kubeconfig
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestLimits(t *testing.T) {
	s := kubetest.Start(t)
	put := func(kind, name string, spec map[string]any) {
		s.Put(map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": "n"}, "spec": spec})
	}
	ranges := func(item map[string]any) {
		put("LimitRange", "limits", map[string]any{"limits": []any{item}})
	}
	with := map[string]any{"containers": []any{map[string]any{"name": "server", "requests": map[string]any{"cpu": "200m", "memory": "200Mi"}}}}
	run(t, s, "no ranges", with)
	for name, c := range map[string]struct {
		item map[string]any
		says string // "" lets it in
	}{
		"a storage claim's":     {map[string]any{"type": "PersistentVolumeClaim", "min": map[string]any{"storage": "1Gi"}}, ""},
		"defaults for requests": {map[string]any{"type": "Container", "defaultRequest": map[string]any{"memory": "1Mi"}}, ""},
		"a small default":       {map[string]any{"type": "Container", "default": map[string]any{"memory": "128Mi"}}, "a limit of 128Mi memory to who has none, and 200Mi are asked for"},
		"a large default":       {map[string]any{"type": "Container", "default": map[string]any{"memory": "1Gi"}, "max": map[string]any{"memory": "2Gi"}}, ""},
		"no limit":              {map[string]any{"type": "Container", "max": map[string]any{"memory": "2Gi"}}, "a limit of 2Gi memory at most, this one of none"},
		"a limit above":         {map[string]any{"type": "Pod", "max": map[string]any{"cpu": "100m"}}, "a pod has a limit of 100m cpu at most, this one of none"},
		"asks for little":       {map[string]any{"type": "Container", "min": map[string]any{"cpu": "250m"}}, "asks for 250m cpu at least, this one for 200m"},
		"asks for nothing":      {map[string]any{"type": "Container", "min": map[string]any{"ephemeral-storage": "1Gi"}}, "1Gi ephemeral-storage at least, this one for none"},
		"a ratio":               {map[string]any{"type": "Container", "default": map[string]any{"cpu": "1"}, "maxLimitRequestRatio": map[string]any{"cpu": "2"}}, "2 times the cpu that are asked for at most, here 1 of 200m"},
		"within the ratio":      {map[string]any{"type": "Container", "default": map[string]any{"cpu": "400m"}, "maxLimitRequestRatio": map[string]any{"cpu": "2"}}, ""},
	} {
		ranges(c.item)
		if c.says == "" {
			run(t, s, name, with)
			continue
		}
		res := run(t, s, name, with, "NS-03")
		if f := res.Findings; len(f) == 1 && (!strings.Contains(f[0].Fields["reason"], c.says) || f[0].Fields["limits"] != "limits" || f[0].Fields["name"] != "server") {
			t.Errorf("%s: %v", name, f[0].Fields)
		}
	}
	ranges(map[string]any{"type": "PersistentVolumeClaim"})
	put("ResourceQuota", "strict", map[string]any{"hard": map[string]any{"limits.memory": "10Gi", "requests.cpu": "10", "pods": "20"}})
	res := run(t, s, "a quota of limits", with, "NS-02")
	if f := res.Findings; len(f) == 1 && (!strings.Contains(f[0].Fields["reason"], "server have no limits.memory") || f[0].Fields["quota"] != "strict") {
		t.Errorf("%v", f[0].Fields)
	}
	ranges(map[string]any{"type": "Container", "default": map[string]any{"memory": "1Gi"}})
	run(t, s, "a default for the quota", with)
	put("ResourceQuota", "strict", map[string]any{"hard": map[string]any{"cpu": "1"}})
	run(t, s, "cpu is requests.cpu", map[string]any{"quota": map[string]any{"requests.cpu": "1050m"}}, "NS-02")
}

func TestMembers(t *testing.T) {
	s := kubetest.Start(t)
	crd := func(kind, plural string) {
		s.Put(map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": plural + ".example.org"}, "spec": map[string]any{
			"group": "example.org", "names": map[string]any{"kind": kind, "plural": plural}, "versions": []any{map[string]any{"name": "v1", "storage": true}},
		}})
	}
	crd("Widget", "widgets")
	crd("Part", "parts")
	s.Put(map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": map[string]any{"name": "w", "namespace": "n"}, "status": map[string]any{"want": 2, "have": 2}})
	part := func(name, of string, done bool) {
		s.Put(map[string]any{"apiVersion": "example.org/v1", "kind": "Part", "metadata": map[string]any{"name": name, "namespace": "n", "annotations": map[string]any{"example.org/of": of}}, "status": map[string]any{"done": done}})
	}
	with := map[string]any{
		"kind": "Widget", "name": "w", "equal": []any{"status.want", "status.have"},
		"members": map[string]any{"kind": "Part", "annotation": "example.org/of", "path": "status.done", "is": "true"},
	}
	part("a", "w", true)
	part("b", "w", false)
	part("c", "another", true)
	res := run(t, s, "one is not done", with, "RES-01")
	if f := res.Findings; len(f) == 1 && (f[0].Fields["actual"] != "1" || f[0].Fields["want"] != "2" || !strings.Contains(f[0].Detail, "of 2 objects Part, 1 have status.done true")) {
		t.Errorf("%+v", f[0])
	}
	part("b", "w", true)
	run(t, s, "all are", with)
}
