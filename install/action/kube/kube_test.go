package kube

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const password = "correct-horse-battery"

// check wants the codes, fields that Codes lists, and no secret anywhere.
func check(t *testing.T, name string, k install.Coder, res install.Result, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	got := []string{}
	for _, f := range res.Findings {
		got = append(got, f.Code)
		for field := range f.Fields {
			if known, ok := k.Codes()[f.Code]; ok && !slices.Contains(known, field) {
				t.Errorf("%s: field %s is not listed with %s", name, field, f.Code)
			}
		}
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		t.Errorf("%s: %s\n%+v", name, d, res.Findings)
	}
	hidden(t, name, res)
}

func hidden(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{password, kubetest.Token} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("%s: a secret shows in %s", name, raw)
		}
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKubeconfig(t *testing.T) {
	s := kubetest.Start(t)
	in := install.Input{Secrets: filepath.Join(t.TempDir(), "secrets"), With: map[string]any{"from": s.Kubeconfig}}
	plan, err := Kubeconfig{}.Plan(t.Context(), in)
	if err != nil || plan.Nothing {
		t.Errorf("%+v, %v", plan, err)
	}
	res, err := Kubeconfig{}.Apply(t.Context(), in)
	check(t, "first", Kubeconfig{}, res, err)
	path, _ := res.Outputs["kubeconfig.file"].(string)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 || !res.Changed {
		t.Fatalf("%v, %v, %+v", fi, err, res)
	}
	if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), kubetest.Token) {
		t.Errorf("%s, %v", data, err)
	}
	if plan, err = (Kubeconfig{}).Plan(t.Context(), in); err != nil || !plan.Nothing {
		t.Errorf("done already: %+v, %v", plan, err)
	}
	res, err = Kubeconfig{}.Apply(t.Context(), in)
	check(t, "again", Kubeconfig{}, res, err)
	if res.Changed || res.Outputs["kubeconfig.file"] != path {
		t.Errorf("again: %+v", res)
	}
	t.Setenv("PATH", t.TempDir())
	plugin := write(t, "config", strings.ReplaceAll(`apiVersion: v1
kind: Config
current-context: c
clusters: [{name: arn:aws:eks:x:1:cluster/main, cluster: {server: "https://a.example"}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}}}]
contexts: [{name: c, context: {cluster: "arn:aws:eks:x:1:cluster/main", user: u}}]
`, "name: arn:aws:eks:x:1:cluster/main", `name: "arn:aws:eks:x:1:cluster/main"`))
	for name, c := range map[string]struct {
		with map[string]any
		code string
	}{
		"plugin":     {map[string]any{"from": plugin}, "K8S-01"},
		"own code":   {map[string]any{"from": plugin, "codes": map[string]any{"K8S-01": "X-01"}}, "X-01"},
		"nothing":    {map[string]any{}, "K8S-07"},
		"no file":    {map[string]any{"from": "/nonexistent/config"}, "K8S-07"},
		"no context": {map[string]any{"from": s.Kubeconfig, "context": "x"}, "K8S-07"},
		"other":      {map[string]any{"from": s.Kubeconfig, "cluster": "main"}, "K8S-14"},
	} {
		in.With = c.with
		res, err := Kubeconfig{}.Apply(t.Context(), in)
		check(t, name, Kubeconfig{}, res, err, c.code)
	}
	if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), kubetest.Token) {
		t.Errorf("a failure changed the file: %s, %v", data, err)
	}
	in.With = map[string]any{"from": s.Kubeconfig, "cluster": "test"}
	res, err = Kubeconfig{}.Apply(t.Context(), in)
	check(t, "by name", Kubeconfig{}, res, err)
}

func configMap(name string, data map[string]any) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": data}
}

func TestApply(t *testing.T) {
	s := kubetest.Start(t)
	file := write(t, "objects.yaml", `# comment only
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.k8s.io/v1
  kind: IngressClass
  metadata: {name: spacelift}
  spec: {controller: example.org/c}
---
apiVersion: v1
kind: Namespace
metadata: {name: "n"}
`)
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "file": []any{file}, "objects": []any{configMap("m", map[string]any{"a": "1"})}}}
	plan, err := Apply{}.Plan(t.Context(), in)
	if err != nil || plan.Nothing || cmp.Diff([]string{"create Namespace n", "create ConfigMap n/m", "create IngressClass spacelift"}, plan.Details) != "" {
		t.Errorf("%+v, %v", plan, err)
	}
	res, err := Apply{}.Apply(t.Context(), in)
	check(t, "first", Apply{}, res, err)
	if !res.Changed || s.Object("/api/v1/namespaces/n/configmaps/m") == nil || s.Object("/apis/networking.k8s.io/v1/ingressclasses/spacelift") == nil {
		t.Errorf("%+v", res)
	}
	if plan, err = (Apply{}).Plan(t.Context(), in); err != nil || !plan.Nothing {
		t.Errorf("%+v, %v", plan, err)
	}
	res, err = Apply{}.Apply(t.Context(), in)
	check(t, "again", Apply{}, res, err)
	if res.Changed {
		t.Error("a second time changes something")
	}
	in.With["objects"] = []any{configMap("m", map[string]any{"a": password})}
	if plan, err = (Apply{}).Plan(t.Context(), in); err != nil || cmp.Diff([]string{"change ConfigMap n/m: data.a"}, plan.Details) != "" {
		t.Errorf("%+v, %v", plan, err)
	}
}

// TestApplyTypes: a type goes first, and its objects wait for it.
func TestApplyTypes(t *testing.T) {
	s := kubetest.Start(t)
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.org"
	asked := 0
	s.Handle("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		o := s.Object(path)
		if asked++; asked > 2 && o != nil { // it takes the server a moment
			o["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}}
		}
		if o == nil {
			kubetest.Refuse(w, 404, "NotFound", "no")
			return
		}
		kubetest.Answer(w, 200, o)
	})
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "objects": []any{
		map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"}},
		map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "widgets.example.org"},
			"spec": map[string]any{"group": "example.org", "names": map[string]any{"kind": "Widget"}},
		},
	}}}
	res, err := Apply{}.Apply(t.Context(), in)
	check(t, "types", Apply{}, res, err)
	got := s.Asked()
	if len(got) != 2 || !strings.HasPrefix(got[0], "PATCH "+path) || !strings.Contains(got[1], "/namespaces/default/widgets/w") || asked < 3 {
		t.Errorf("%d, %v", asked, got)
	}
}

func TestApplyRefused(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "gone"}, "spec": map[string]any{"finalizers": []any{"kubernetes"}}, "status": map[string]any{"phase": "Terminating"}})
	s.Handle("PATCH /api/v1/namespaces/default/configmaps/owned", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("force") == "true" {
			kubetest.Answer(w, 200, configMap("owned", nil))
			return
		}
		kubetest.Answer(w, 409, metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: 409, Reason: "Conflict",
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Field: ".data.a", Message: `conflict with "argocd-controller" using v1`}}},
		})
	})
	s.Handle("PATCH /api/v1/namespaces/default/configmaps/denied", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Refuse(w, 403, "Forbidden", `configmaps "denied" is forbidden: User "eve" cannot patch resource "configmaps" in API group "" in the namespace "default"`)
	})
	image := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "docker.io/library/nothing:1"}}}}
	for name, c := range map[string]struct {
		with map[string]any
		code string
		says string
	}{
		"terminating": {map[string]any{"objects": []any{map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "gone"}}}}, "NS-01", "finalizer kubernetes"},
		"owned":       {map[string]any{"objects": []any{configMap("owned", nil)}}, "K8S-08", "argocd-controller"},
		"denied":      {map[string]any{"objects": []any{configMap("denied", nil)}, "codes": map[string]any{"K8S-03": "PULL-01"}}, "PULL-01", "patch configmaps"},
		"kind":        {map[string]any{"objects": []any{map[string]any{"apiVersion": "v1", "kind": "Nothing", "metadata": map[string]any{"name": "x"}}}}, "K8S-10", "Nothing"},
		"image":       {map[string]any{"objects": []any{image}, "images": map[string]any{"entries": []any{}}}, "REN-01", "docker.io/library/nothing:1"},
	} {
		c.with["kubeconfig"] = s.Kubeconfig
		res, err := Apply{}.Apply(t.Context(), install.Input{With: c.with})
		check(t, name, Apply{}, res, err, c.code)
		if len(res.Findings) > 0 && !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %s", name, res.Findings[0].Detail)
		}
	}
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "objects": []any{configMap("owned", nil)}}}
	if plan, err := (Apply{}).Plan(t.Context(), in); err != nil || plan.Nothing || !strings.Contains(strings.Join(plan.Details, ""), "argocd-controller") {
		t.Errorf("%+v, %v", plan, err)
	}
	in.With["force"] = true
	res, err := Apply{}.Apply(t.Context(), in)
	check(t, "forced", Apply{}, res, err)
}

func TestApplyArguments(t *testing.T) {
	s := kubetest.Start(t)
	for name, with := range map[string]map[string]any{
		"nothing":     {},
		"twice":       {"file": write(t, "x.yaml", "apiVersion: v1\nkind: ConfigMap\nkind: Secret\nmetadata: {name: x}\n")},
		"no name":     {"file": write(t, "x.yaml", "apiVersion: v1\nkind: ConfigMap\n")},
		"no object":   {"objects": []any{map[string]any{"a": "b"}}},
		"no file":     {"file": "/nonexistent/objects.yaml"},
		"bad wait":    {"objects": []any{configMap("m", nil)}, "wait": "x"},
		"unknown key": {"objects": []any{configMap("m", nil)}, "waits": "x"},
	} {
		with["kubeconfig"] = s.Kubeconfig
		if res, err := (Apply{}).Apply(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%s is accepted: %+v", name, res)
		}
	}
	if got := s.Asked(); len(got) > 0 {
		t.Errorf("asked %v", got)
	}
}

// TestApplyImages: references inside point at the enclave's registry.
func TestApplyImages(t *testing.T) {
	s := kubetest.Start(t)
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}, "spec": map[string]any{"priority": 7, "containers": []any{map[string]any{"name": "c", "image": "docker.io/library/web:1"}}}}
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "objects": []any{pod}, "images": map[string]any{"entries": []any{
		map[string]any{"kind": "image", "source": "docker.io/library/web:1", "target": "reg.example/web:1", "digest": digest},
	}}}}
	res, err := Apply{}.Apply(t.Context(), in)
	check(t, "images", Apply{}, res, err)
	raw, _ := json.Marshal(s.Object("/api/v1/namespaces/n/pods/p"))
	if !strings.Contains(string(raw), `"reg.example/web:1@`+digest+`"`) || !strings.Contains(string(raw), `"priority":7`) {
		t.Errorf("%s", raw)
	}
}

func TestApplyEmbed(t *testing.T) {
	s := kubetest.Start(t)
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "objects": []any{configMap("m", map[string]any{"a": "x"})}, "embed": []any{
		map[string]any{"object": "ConfigMap/m", "path": "data.bundle", "file": write(t, "ca", "PEM")}, map[string]any{"object": "ConfigMap/m", "path": "data.none", "file": ""},
	}}}
	res, err := Apply{}.Apply(t.Context(), in)
	check(t, "embed", Apply{}, res, err)
	if data, _ := s.Object("/api/v1/namespaces/n/configmaps/m")["data"].(map[string]any); cmp.Diff(map[string]any{"a": "x", "bundle": base64Of([]byte("PEM"))}, data) != "" {
		t.Errorf("%v", data)
	}
	for name, e := range map[string]map[string]any{
		"object": {"object": "ConfigMap/x", "path": "data.a", "file": "/dev/null"}, "path": {"object": "ConfigMap/m", "path": "data.a.b", "file": write(t, "ca", "PEM")},
		"file": {"object": "ConfigMap/m", "path": "data.b", "file": "/nonexistent/ca"},
	} {
		in.With["embed"] = []any{e}
		if _, err := (Apply{}).Apply(t.Context(), in); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSecret(t *testing.T) {
	s := kubetest.Start(t)
	const path = "/api/v1/namespaces/n/secrets/app-settings"
	in := install.Input{With: map[string]any{
		"kubeconfig": s.Kubeconfig, "namespace": "n", "name": "app-settings",
		"data": map[string]any{"PASSWORD": password, "EMPTY": ""}, "files": map[string]any{"tls.crt": write(t, "x", "-----BEGIN CERTIFICATE-----\nx\n")},
		"base64_files": map[string]any{"key": write(t, "key", "binary\n")}, "required": []any{"PASSWORD", map[string]any{"keys": []any{"key"}, "type": "the pool"}},
	}}
	plan, err := Secret{}.Plan(t.Context(), in)
	if err != nil || plan.Nothing || len(plan.Details) != 4 {
		t.Errorf("%+v, %v", plan, err)
	}
	hidden(t, "plan", plan)
	res, err := Secret{}.Apply(t.Context(), in)
	check(t, "first", Secret{}, res, err)
	data, _ := s.Object(path)["data"].(map[string]any)
	if data["key"] != base64Of([]byte(base64Of([]byte("binary\n")))) || data["PASSWORD"] != base64Of([]byte(password)) || data["EMPTY"] != "" {
		t.Errorf("%v", data)
	}
	hash, _ := res.Outputs["secret.app_settings.hash"].(string)
	md, _ := s.Object(path)["metadata"].(map[string]any)
	annotations, _ := md["annotations"].(map[string]any)
	if !strings.HasPrefix(hash, "sha256:") || annotations[cluster.AnnotationContent] != hash {
		t.Errorf("hash %q, %v", hash, md)
	}
	if plan, err = (Secret{}).Plan(t.Context(), in); err != nil || !plan.Nothing {
		t.Errorf("%+v, %v", plan, err)
	}
	res, err = Secret{}.Apply(t.Context(), in)
	check(t, "again", Secret{}, res, err)
	if res.Changed || res.Outputs["secret.app_settings.hash"] != hash {
		t.Errorf("%+v", res)
	}
	in.With = map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "name": "app-settings", "merge": true, "data": map[string]any{"PASSWORD": "", "NEW": password}, "remove": []any{"EMPTY"}}
	if plan, err = (Secret{}).Plan(t.Context(), in); err != nil || plan.Nothing || !slices.Contains(plan.Details, "data.NEW") {
		t.Errorf("%+v, %v", plan, err)
	}
	hidden(t, "plan of a merge", plan)
	res, err = Secret{}.Apply(t.Context(), in)
	check(t, "merge", Secret{}, res, err)
	data, _ = s.Object(path)["data"].(map[string]any)
	if _, there := data["EMPTY"]; there || data["PASSWORD"] != "" || data["NEW"] != base64Of([]byte(password)) || data["key"] == nil || res.Outputs["secret.app_settings.hash"] == hash {
		t.Errorf("%v, %+v", data, res)
	}
	res, err = Secret{}.Apply(t.Context(), in)
	check(t, "merge again", Secret{}, res, err)
	if res.Changed {
		t.Error("a second merge changes something")
	}
	in.With = map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "name": "app-settings", "merge": true, "remove": []any{"NEW"}, "required": []any{"key", "NEW"}}
	res, err = Secret{}.Apply(t.Context(), in)
	check(t, "a merge takes away what is required", Secret{}, res, err, "SEC-01")
	// What is not given is not there, and not empty.
	in.With = map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "name": "second", "data": map[string]any{"A": "a", "B": nil}}
	res, err = Secret{}.Apply(t.Context(), in)
	check(t, "a key without a value", Secret{}, res, err)
	if data, _ = s.Object("/api/v1/namespaces/n/secrets/second")["data"].(map[string]any); len(data) != 1 {
		t.Errorf("%v", data)
	}
}

// TestSecretMergeRaces: what a merge was made for is what it changes. If somebody
// wrote to the Secret meanwhile it looks again, and a server that repeats a value
// in its refusal is not quoted.
func TestSecretMergeRaces(t *testing.T) {
	s := kubetest.Start(t)
	const path = "/api/v1/namespaces/n/secrets/x"
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "x", "namespace": "n"}, "data": map[string]any{"A": "", "B": ""}})
	tries, refuse := 0, false
	s.Handle("PATCH "+path, func(w http.ResponseWriter, r *http.Request) {
		var sent corev1.Secret
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		md, _ := s.Object(path)["metadata"].(map[string]any)
		switch tries++; {
		case refuse:
			kubetest.Refuse(w, 422, "Invalid", `data.A: Invalid value: "`+password+`"`)
		case tries == 1: // somebody was faster
			s.Put(s.Object(path))
			kubetest.Refuse(w, 409, "Conflict", "the object has been modified")
		case sent.ResourceVersion != md["resourceVersion"]:
			t.Errorf("try %d is for version %q, there is %v", tries, sent.ResourceVersion, md["resourceVersion"])
			kubetest.Refuse(w, 409, "Conflict", "the object has been modified")
		default:
			kubetest.Answer(w, 200, s.Object(path))
		}
	})
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "name": "x", "merge": true, "data": map[string]any{"A": password}}}
	res, err := Secret{}.Apply(t.Context(), in)
	check(t, "raced", Secret{}, res, err)
	if tries < 2 {
		t.Errorf("%d tries", tries)
	}
	refuse = true
	res, err = Secret{}.Apply(t.Context(), in)
	check(t, "refused", Secret{}, res, err, "K8S-09")
}

// TestSecretPatch: in a tree a merge is a part of a Secret, with what it takes
// away.
func TestSecretPatch(t *testing.T) {
	list, err := Secret{}.Objects(t.Context(), install.Input{With: map[string]any{"namespace": "n", "name": "x", "merge": true, "data": map[string]any{"A": ""}, "remove": []any{"B"}}})
	if err != nil || len(list) != 1 || !list[0].Patch {
		t.Fatalf("%+v, %v", list, err)
	}
	if d := cmp.Diff(map[string]any{"A": "", "B": nil}, list[0].Tree["data"]); d != "" {
		t.Error(d)
	}
}

func TestSecretLogin(t *testing.T) {
	s := kubetest.Start(t)
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "name": "pull", "registry": "reg.example:5000/mirror", "username": "u", "password": password}}
	res, err := Secret{}.Apply(t.Context(), in)
	check(t, "login", Secret{}, res, err)
	o := s.Object("/api/v1/namespaces/n/secrets/pull")
	want := base64Of([]byte(`{"auths":{"reg.example:5000":{"auth":"` + base64Of([]byte("u:"+password)) + `","password":"` + password + `","username":"u"}}}`))
	if data, _ := o["data"].(map[string]any); o["type"] != "kubernetes.io/dockerconfigjson" || data[".dockerconfigjson"] != want {
		t.Errorf("%v", o)
	}
}

func TestSecretRefused(t *testing.T) {
	s := kubetest.Start(t)
	for name, c := range map[string]struct {
		with map[string]any
		want []string
	}{
		"line end":  {map[string]any{"data": map[string]any{"A": password + "\n"}}, []string{"SEC-02"}},
		"not text":  {map[string]any{"data": map[string]any{"A": true, "B": 7, "C": "x"}}, []string{"SEC-03", "SEC-03"}},
		"missing":   {map[string]any{"data": map[string]any{"A": ""}, "required": []any{"A", "B"}}, []string{"SEC-01", "SEC-01"}},
		"typo":      {map[string]any{"data": map[string]any{"OBJECT_STORAGE_BUKET": "x", "OTHER": "x"}, "known": []any{"OBJECT_STORAGE_BUCKET"}, "prefixes": []any{"OBJECT_STORAGE_"}}, []string{"SEC-05"}},
		"own code":  {map[string]any{"data": map[string]any{"A": "x\n"}, "codes": map[string]any{"SEC-02": "X-01"}}, []string{"X-01"}},
		"no secret": {map[string]any{"data": map[string]any{"A": "x"}, "merge": true}, []string{"SEC-01"}},
		// What is not known is not there: it is no empty value.
		"nothing": {map[string]any{"data": map[string]any{"A": nil}, "required": []any{"A"}}, []string{"SEC-01"}},
		"base":    {map[string]any{"base": "kind: Secret\nmetadata: {name: x}\nstringData: {GONE: y}\n", "data": map[string]any{"B": "x"}, "remove": []any{"GONE"}, "required": []any{"GONE", "B"}}, []string{"SEC-01"}},
	} {
		c.with["kubeconfig"], c.with["namespace"], c.with["name"] = s.Kubeconfig, "n", "x"
		res, err := Secret{}.Apply(t.Context(), install.Input{With: c.with})
		check(t, name, Secret{}, res, err, c.want...)
		plan, err := Secret{}.Plan(t.Context(), install.Input{With: c.with})
		if err != nil || plan.Nothing || len(plan.Details) != len(c.want) {
			t.Errorf("%s: %+v, %v", name, plan, err)
		}
		hidden(t, name, plan)
	}
	for name, with := range map[string]map[string]any{
		"half a login": {"registry": "r", "username": "u"},
		"bad key":      {"data": map[string]any{"a b": "x"}},
		"twice":        {"data": map[string]any{"a": "x"}, "files": map[string]any{"a": write(t, "a", "x")}},
		"no file":      {"files": map[string]any{"a": "/nonexistent/a"}},
		"both":         {"data": map[string]any{"a": "x"}, "remove": []any{"a"}},
	} {
		with["kubeconfig"], with["namespace"], with["name"] = s.Kubeconfig, "n", "x"
		if _, err := (Secret{}).Apply(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if got := s.Asked(); len(got) > 0 {
		t.Errorf("something was changed: %v", got)
	}
}

// deployment is one that is up, with a pod that started at a time.
func recorded(t *testing.T, res install.Result) string {
	t.Helper()
	if len(res.Evidence) != 1 {
		t.Fatalf("%d records", len(res.Evidence))
	}
	return string(res.Evidence[0].Data)
}

// TestApplyRecords: what a step made before it failed can be uninstalled.
func TestApplyRecords(t *testing.T) {
	s := kubetest.Start(t)
	s.Handle("PATCH /api/v1/namespaces/n/configmaps/second", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Refuse(w, 422, "Invalid", "no")
	})
	first := configMap("first", nil)
	first["status"] = map[string]any{"made": "up"}
	res, err := Apply{}.Apply(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "namespace": "n", "objects": []any{first, configMap("second", nil)}}})
	check(t, "second", Apply{}, res, err, "K8S-09")
	if text := recorded(t, res); !strings.Contains(text, "first") || strings.Contains(text, "second") {
		t.Errorf("the record is %s", text)
	}
	if o := s.Object("/api/v1/namespaces/n/configmaps/first"); o == nil || o["status"] != nil {
		t.Errorf("a status is not a step's to give: %v", o)
	}
}

func TestOwners(t *testing.T) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{
		{Manager: "helm", FieldsV1: metav1.NewFieldsV1(`{"f:data":{".":{},"f:A":{}}}`)},
		{Manager: merger, FieldsV1: metav1.NewFieldsV1(`{"f:data":{"f:B":{}}}`)},
	}}}
	if got := owners(s, "A"); cmp.Diff([]string{"helm"}, got) != "" {
		t.Error(got)
	}
	if got := owners(s, "B"); cmp.Diff([]string{merger}, got) != "" {
		t.Error(got)
	}
	if onlyOurs(nil) || onlyOurs([]string{"helm", merger}) || !onlyOurs([]string{cluster.Manager, merger}) {
		t.Error("onlyOurs")
	}
}
