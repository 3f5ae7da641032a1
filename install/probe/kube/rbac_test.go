package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	"github.com/google/go-cmp/cmp"
	authv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func TestRBAC(t *testing.T) {
	s := kubetest.Start(t)
	var asked []string
	s.Handle("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				ResourceAttributes struct{ Namespace, Verb, Group, Resource, Subresource string }
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		a := review.Spec.ResourceAttributes
		asked = append(asked, strings.Join([]string{a.Namespace, a.Verb, a.Group, a.Resource, a.Subresource}, " "))
		kubetest.Answer(w, 201, map[string]any{"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": map[string]any{"allowed": a.Verb != "delete"}})
	})
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "rules": []any{
		map[string]any{"verbs": []any{"get", "delete"}, "resources": []any{"deployments.apps", "pods/log"}, "namespaces": []any{"n", "m"}},
		map[string]any{"verbs": []any{"get"}, "resources": []any{"namespaces"}},
		map[string]any{"verbs": []any{"get"}, "resources": []any{"namespaces"}},
	}}}
	res, err := RBAC{}.Run(t.Context(), in)
	check(t, "rules", RBAC{}, res, err, "K8S-03", "K8S-03", "K8S-03", "K8S-03")
	want := []string{"n get apps deployments ", "n delete apps deployments ", "n get  pods log", "n delete  pods log", "m get apps deployments ", "m delete apps deployments ", "m get  pods log", "m delete  pods log", " get  namespaces "}
	if d := cmp.Diff(want, asked); d != "" {
		t.Error(d)
	}
	if f := res.Findings[3].Fields; f["verb"] != "delete" || f["resource"] != "pods/log" || f["namespace"] != "m" {
		t.Errorf("%v", f)
	}
	for name, rules := range map[string][]any{"none": nil, "no verbs": {map[string]any{"resources": []any{"x"}}}} {
		if _, err := (RBAC{}).Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "rules": rules}}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestRBACNamed asks only what will be done: create for what is not there, and
// nothing of a rule that does not apply.
func TestRBACNamed(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "old"}})
	var asked []string
	s.Handle("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				ResourceAttributes struct{ Namespace, Verb, Resource, Name string }
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		a := review.Spec.ResourceAttributes
		asked = append(asked, strings.Join([]string{a.Namespace, a.Verb, a.Resource, a.Name}, " "))
		kubetest.Answer(w, 201, map[string]any{"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": map[string]any{"allowed": a.Verb != "create"}})
	})
	res, err := RBAC{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "rules": []any{
		map[string]any{"verbs": []any{"get", "create", "patch"}, "resources": []any{"namespaces"}, "names": []any{"old", "new"}},
		map[string]any{"when": false, "verbs": []any{"get"}, "resources": []any{"customresourcedefinitions.apiextensions.k8s.io"}},
		map[string]any{"when": true, "verbs": []any{"list"}, "resources": []any{"ingressclasses.networking.k8s.io"}},
	}}})
	check(t, "rules", RBAC{}, res, err, "K8S-03")
	want := []string{"old get namespaces old", "old patch namespaces old", "new get namespaces new", "new create namespaces new", "new patch namespaces new", " list ingressclasses "}
	if d := cmp.Diff(want, asked); d != "" {
		t.Error(d)
	}
	if len(res.Findings) == 1 && res.Findings[0].Fields["resource"] != "namespaces new" {
		t.Errorf("%v", res.Findings[0].Fields)
	}
}

// chartOf parses what a chart is rendered to.
func chartOf(t *testing.T, text string) []chart.Object {
	t.Helper()
	objects, err := chart.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range objects {
		objects[i].Stage = chart.StageResource
		if strings.Contains(note(o, "helm.sh/hook"), "post-install") {
			objects[i].Stage = chart.StagePostInstall
		}
	}
	return objects
}

const controller = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com, annotations: {helm.sh/resource-policy: keep}}
spec: {group: example.com, scope: Cluster, names: {kind: Gadget, plural: gadgetry}}
---
apiVersion: example.com/v1
kind: Gadget
metadata: {name: g}
---
apiVersion: elsewhere.example.com/v1
kind: Policy
metadata: {name: p, namespace: m}
---
apiVersion: batch/v1
kind: Job
metadata: {name: check, annotations: {helm.sh/hook: post-install}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: t, annotations: {helm.sh/hook: test}}
`

const roles = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all}
rules: [{apiGroups: [""], resources: [secrets, pods/log], verbs: [get, list]}, {nonResourceURLs: [/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: all}
roleRef: {kind: ClusterRole, name: all}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: here}
rules: [{apiGroups: [example.com], resources: [gadgetry], resourceNames: [g], verbs: [use]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: here}
roleRef: {kind: Role, name: here}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: theirs, namespace: kube-system}
roleRef: {kind: ClusterRole, name: view}
`

// reviewed is a server that allows what allow says of "verb resource/subresource
// name in namespace", or of "verb path", and the questions that it was asked.
func reviewed(t *testing.T, allow func(string) bool) (s *kubetest.Server, asked *[]string) {
	t.Helper()
	s, asked = kubetest.Start(t), &[]string{}
	s.Handle("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				ResourceAttributes    *struct{ Namespace, Verb, Group, Resource, Subresource, Name string }
				NonResourceAttributes *struct{ Verb, Path string }
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		var q string
		if a := review.Spec.ResourceAttributes; a != nil {
			q = strings.TrimSpace(a.Verb+" "+strings.TrimSuffix(a.Resource+"/"+a.Subresource, "/")+" "+a.Name) + " in " + a.Namespace
		} else {
			q = review.Spec.NonResourceAttributes.Verb + " " + review.Spec.NonResourceAttributes.Path
		}
		*asked = append(*asked, q)
		kubetest.Answer(w, 201, map[string]any{"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": map[string]any{"allowed": allow(q)}})
	})
	return s, asked
}

// TestRBACChart asks for what is in a chart, and knows where it is.
func TestRBACChart(t *testing.T) {
	s, asked := reviewed(t, func(string) bool { return true })
	var with map[string]any
	k := RBAC{Render: func(_ context.Context, in install.Input) ([]chart.Object, error) {
		with = in.With
		return chartOf(t, controller), nil
	}}
	in := install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "charts": []any{
		map[string]any{"chart": "web", "namespace": "n", "files": true, "values": []any{map[string]any{"a": "b"}}},
		map[string]any{"when": false, "chart": "other"},
	}}}
	res, err := k.Run(t.Context(), in)
	check(t, "chart", k, res, err)
	if with["chart"] != "web" || with["namespace"] != "n" || with["files"] != true || with["kubeconfig"] != s.Kubeconfig {
		t.Errorf("rendered with %v", with)
	}
	slices.Sort(*asked)
	var want []string
	for what, verbs := range map[string]string{
		"secrets in n": "get list create update delete", "deployments in n": "get create patch delete", "replicasets in n": "list", "pods in n": "list", "events in n": "list", "pods/log in n": "get",
		"customresourcedefinitions in ": "get create patch", "gadgetry in ": "get create patch delete", "policies in m": "get create patch delete", "jobs in n": "get list watch create delete",
	} {
		for v := range strings.FieldsSeq(verbs) {
			want = append(want, v+" "+what)
		}
	}
	slices.Sort(want)
	if d := cmp.Diff(want, *asked); d != "" {
		t.Error(d)
	}
	*asked = nil
	in.GitOps = true
	if _, err := k.Run(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for _, q := range *asked {
		if verb, _, _ := strings.Cut(q, " "); verb != "get" && verb != "list" && verb != "watch" {
			t.Errorf("asked where nothing is changed: %s", q)
		}
	}
}

// TestRBACGrants: roles of a chart may be made by who may escalate and bind, or
// has all that is in them; of a role that is not the chart's, only by the former.
func TestRBACGrants(t *testing.T) {
	k := RBAC{Render: func(context.Context, install.Input) ([]chart.Object, error) { return chartOf(t, roles), nil }}
	holds := []string{"get secrets in ", "list secrets in ", "get pods/log in ", "list pods/log in ", "get /metrics", "use gadgetry g in n"}
	grants := func(q string) bool { return strings.HasPrefix(q, "escalate ") || strings.HasPrefix(q, "bind ") }
	for name, c := range map[string]struct {
		allow func(string) bool
		want  map[string]string // verb and resource: what the detail says
	}{
		"may":   {func(string) bool { return true }, nil},
		"holds": {func(q string) bool { return !grants(q) }, map[string]string{"bind clusterroles.rbac.authorization.k8s.io kube-system": "view (not a role of this chart)"}},
		"holds exactly": {func(q string) bool {
			return strings.Contains(q, "role") && !grants(q) || slices.Contains(holds, q) || q == "bind clusterroles view in kube-system" || strings.HasSuffix(q, "secrets in n")
		}, nil},
		"lacks": {func(q string) bool {
			return !grants(q) && q != "get /metrics" && q != "use gadgetry g in n" && q != "list pods/log in "
		}, map[string]string{
			"escalate clusterroles.rbac.authorization.k8s.io ": "all (list pods/log, get /metrics)", "bind clusterroles.rbac.authorization.k8s.io ": "all (list pods/log, get /metrics)",
			"escalate roles.rbac.authorization.k8s.io n": "here (use gadgetry.example.com g)", "bind roles.rbac.authorization.k8s.io n": "here (use gadgetry.example.com g)",
			"bind clusterroles.rbac.authorization.k8s.io kube-system": "view",
		}},
		"named": {func(q string) bool {
			return !grants(q) || strings.Contains(q, " all in ") || strings.Contains(q, " here in n") || strings.Contains(q, " view in kube-system")
		}, nil},
	} {
		s, _ := reviewed(t, c.allow)
		res, err := k.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "charts": []any{map[string]any{"chart": "web", "namespace": "n"}}}})
		check(t, name, k, res, err, slices.Repeat([]string{"K8S-03"}, len(c.want))...)
		for _, f := range res.Findings {
			key := f.Fields["verb"] + " " + f.Fields["resource"] + " " + f.Fields["namespace"]
			if want, ok := c.want[key]; !ok || !strings.Contains(f.Detail, want) || !strings.Contains(f.Detail, "chart web") {
				t.Errorf("%s: %s: %s, want %q", name, key, f.Detail, want)
			}
		}
	}
}

// TestRBACChartTroubles: a chart that cannot be rendered is said, and its item
// says the rest.
func TestRBACChartTroubles(t *testing.T) {
	s, _ := reviewed(t, func(string) bool { return true })
	with := map[string]any{"kubeconfig": s.Kubeconfig, "charts": []any{map[string]any{"chart": "web", "namespace": "n"}}}
	res, err := RBAC{Render: func(context.Context, install.Input) ([]chart.Object, error) { return nil, errors.New("no chart web") }}.Run(t.Context(), install.Input{With: with})
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Severity != install.SeverityWarn || !strings.Contains(res.Findings[0].Detail, "no chart web") {
		t.Errorf("%+v, %v", res, err)
	}
	for name, text := range map[string]string{
		"rules":   "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: all\n",
		"version": "apiVersion: a/b/c\nkind: Role\nmetadata: {name: r}\n",
	} {
		k := RBAC{Render: func(context.Context, install.Input) ([]chart.Object, error) { return chartOf(t, text), nil }}
		if _, err := k.Run(t.Context(), install.Input{With: with}); err == nil || !strings.Contains(err.Error(), "Role r") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := (RBAC{}).Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "charts": []any{map[string]any{"chart": "web"}}}}); err == nil {
		t.Error("a chart without a namespace is accepted")
	}
}

// TestRBACBounded: rules of a chart are hostile.
func TestRBACBounded(t *testing.T) {
	s, asked := reviewed(t, func(q string) bool { return !strings.HasPrefix(q, "escalate") })
	c, err := cluster.Open(t.Context(), cluster.Config{Kubeconfig: s.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	r := &reviews{Client: c, known: make(map[string]authv1.SubjectAccessReviewStatus), most: 3}
	_, err = r.lacking(t.Context(), grant{verb: "escalate", resource: "clusterroles", name: "r", rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"a", "b"}, Verbs: []string{"get", "get", "list"}}}})
	if err == nil || !strings.Contains(err.Error(), "more than 3 questions") || len(*asked) != 3 {
		t.Errorf("%v after %q", err, *asked)
	}
}

// TestRBACGrantsOf: a role that gathers others may come to hold anything, two roles
// of one name in two namespaces are two, and a type of the crds directory is never
// removed.
func TestRBACGrantsOf(t *testing.T) {
	const role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: %s}\nrules: [{apiGroups: [\"\"], resources: [%s], verbs: [get]}]\n---\n"
	const bind = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: r, namespace: a}\nroleRef: {kind: Role, name: r}\n---\n"
	objects := chartOf(t, fmt.Sprintf(role, "a", "pods")+fmt.Sprintf(role, "b", "secrets")+bind+
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: sum}\naggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}\n")
	list, err := rbacChart{Chart: "web", Namespace: "n"}.grants(objects)
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, g := range list {
		switch {
		case g.verb == "bind" && (g.unknown || len(g.rules) != 1 || g.rules[0].Resources[0] != "pods"):
			t.Errorf("the binding gives %+v", g)
		case g.name == "sum" && len(g.rules) != 2:
			t.Errorf("the sum of others gives %+v", g)
		}
	}
	if got := verbsOf(chart.Object{Stage: chart.StageCRD, Tree: map[string]any{"kind": "CustomResourceDefinition"}}); slices.Contains(got, "delete") {
		t.Errorf("a type is removed: %q", got)
	}
}

// TestRBACUnseen: what the user may not look at counts as not there, so that the
// right to make it is asked for.
func TestRBACUnseen(t *testing.T) {
	s, asked := reviewed(t, func(q string) bool { return !strings.HasPrefix(q, "create ") })
	s.Handle("GET /api/v1/namespaces/{name}", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Refuse(w, 403, "Forbidden", "no")
	})
	res, err := RBAC{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "rules": []any{map[string]any{"verbs": []any{"create"}, "resources": []any{"namespaces"}, "names": []any{"n"}}}}})
	check(t, "unseen", RBAC{}, res, err, "K8S-03")
	if !slices.Contains(*asked, "create namespaces n in n") {
		t.Errorf("asked %q", *asked)
	}
}
