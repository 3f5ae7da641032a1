package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	authv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// rbacChart is a release that a later step helm.release makes, with the
// arguments of that step that decide what it consists of.
type rbacChart struct {
	When      *bool            `json:"when"` // false: it is not installed; default true
	Chart     string           `json:"chart"`
	Release   string           `json:"release"` // default: Chart
	Namespace string           `json:"namespace"`
	Values    []map[string]any `json:"values"`
	Files     bool             `json:"files"`
}

func (k RBAC) render(ctx context.Context, in install.Input, at cluster.Access, rel rbacChart) ([]chart.Object, error) {
	if k.Render == nil {
		return nil, errors.New("charts cannot be rendered here")
	}
	in.With = map[string]any{
		"kubeconfig": at.Kubeconfig, "context": at.Context, "chart": rel.Chart, "release": rel.Release, "namespace": rel.Namespace, "files": rel.Files, "values": rel.Values,
	}
	return k.Render(ctx, in)
}

// recorded is what Helm does with the Secrets in which it keeps a release.
var recorded = []string{"get", "list", "create", "update", "delete"}

// asks are the questions about a release: its objects are made, changed, and
// removed where an installation or an upgrade does not work, hooks are made anew
// and waited for, and of pods that do not become ready is said why.
func (r rbacChart) asks(ctx context.Context, c *cluster.Client, objects []chart.Object) ([]authv1.ResourceAttributes, error) {
	ask := func(verbs []string, gr schema.GroupResource, sub, namespace string) (out []authv1.ResourceAttributes) {
		for _, v := range verbs {
			out = append(out, authv1.ResourceAttributes{Namespace: namespace, Verb: v, Group: gr.Group, Resource: gr.Resource, Subresource: sub})
		}
		return out
	}
	out := ask(recorded, schema.GroupResource{Resource: "secrets"}, "", r.Namespace)
	types := typesOf(objects)
	for _, o := range objects {
		verbs := verbsOf(o)
		if len(verbs) == 0 {
			continue
		}
		gr, namespaced, err := resourceOf(ctx, c, types, o)
		if err != nil {
			return nil, err
		}
		namespace := ""
		if namespaced {
			namespace = namespaceOf(o, r.Namespace)
		}
		out = append(out, ask(verbs, gr, "", namespace)...)
		if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"}, o.Kind()) {
			out = append(out, ask([]string{"list"}, schema.GroupResource{Resource: "pods"}, "", namespace)...)
			out = append(out, ask([]string{"list"}, schema.GroupResource{Resource: "events"}, "", namespace)...)
			out = append(out, ask([]string{"get"}, schema.GroupResource{Resource: "pods"}, "log", namespace)...)
		}
		if o.Kind() == "Deployment" {
			out = append(out, ask([]string{"list"}, schema.GroupResource{Group: "apps", Resource: "replicasets"}, "", namespace)...)
		}
	}
	return out, nil
}

// verbsOf is what is done with an object of a release.
func verbsOf(o chart.Object) []string {
	hook := note(o, "helm.sh/hook")
	switch {
	case o.Kind() == "" || strings.Contains(hook, "test") && !strings.Contains(hook, "install"):
		return nil // tests are run by people
	case o.Stage == chart.StageCRD:
		return []string{"get", "create", "patch"}
	case hook != "" && (o.Kind() == "Job" || o.Kind() == "Pod"):
		return []string{"get", "list", "watch", "create", "delete"}
	case hook != "":
		return []string{"get", "create", "delete"}
	case strings.EqualFold(strings.TrimSpace(note(o, "helm.sh/resource-policy")), "keep"):
		return []string{"get", "create", "patch"}
	}
	return []string{"get", "create", "patch", "delete"}
}

// resourceOf finds the resource of an object: a type of the chart itself, or one
// of the cluster. One that is not there yet, because another chart brings it, is
// taken to have the usual name.
func resourceOf(ctx context.Context, c *cluster.Client, types map[schema.GroupKind]brought, o chart.Object) (gr schema.GroupResource, namespaced bool, err error) {
	gv, err := schema.ParseGroupVersion(o.APIVersion())
	if err != nil {
		return gr, false, fmt.Errorf("%s %s: %w", o.Kind(), o.Name(), err)
	}
	if t, ok := types[schema.GroupKind{Group: gv.Group, Kind: o.Kind()}]; ok {
		return schema.GroupResource{Group: gv.Group, Resource: t.plural}, t.namespaced, nil
	}
	m, err := c.Mapping(ctx, gv.WithKind(o.Kind()))
	if _, unknown := errors.AsType[*cluster.UnknownKindError](err); unknown {
		plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(o.Kind()))
		return plural.GroupResource(), true, nil
	}
	if err != nil {
		return gr, false, err
	}
	return m.Resource.GroupResource(), m.Scope.Name() == meta.RESTScopeNameNamespace, nil
}

// brought is a type that a chart brings.
type brought struct {
	plural     string
	namespaced bool
}

func typesOf(objects []chart.Object) map[schema.GroupKind]brought {
	out := make(map[schema.GroupKind]brought)
	for _, o := range objects {
		if o.Kind() != "CustomResourceDefinition" {
			continue
		}
		var d struct {
			Spec struct {
				Group, Scope string
				Names        struct{ Kind, Plural string }
			}
		}
		if decode(o, &d) == nil && d.Spec.Names.Plural != "" {
			out[schema.GroupKind{Group: d.Spec.Group, Kind: d.Spec.Names.Kind}] = brought{d.Spec.Names.Plural, d.Spec.Scope == "Namespaced"}
		}
	}
	return out
}

// decode reads what of an object matters; the rest of it may be anything.
func decode(o chart.Object, into any) error {
	raw, err := o.JSON()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s %s of the chart cannot be read: %w", o.Kind(), o.Name(), err)
	}
	return nil
}

func note(o chart.Object, name string) string {
	m, _ := o.Tree["metadata"].(map[string]any)
	all, _ := m["annotations"].(map[string]any)
	s, _ := all[name].(string)
	return s
}

func namespaceOf(o chart.Object, otherwise string) string {
	m, _ := o.Tree["metadata"].(map[string]any)
	if s, _ := m["namespace"].(string); s != "" {
		return s
	}
	return otherwise
}

// grant is a role or binding of a chart. Nobody may give what he has not: the
// API server wants that whoever makes it holds all that it grants, or may
// escalate that role, or bind it.
type grant struct {
	chart, verb string
	resource    string // of the role: clusterroles or roles
	namespace   string // in which it grants; "" in all
	name        string // of the role
	rules       []rbacv1.PolicyRule
	unknown     bool // the role is not of this chart, so what it grants is not known
}

// grants lists what a chart gives its service accounts.
func (r rbacChart) grants(objects []chart.Object) ([]grant, error) {
	var out, bound []grant
	rules := make(map[string][]rbacv1.PolicyRule)
	for _, o := range objects {
		if !strings.HasPrefix(o.APIVersion(), rbacv1.GroupName+"/") || len(verbsOf(o)) == 0 {
			continue
		}
		g := grant{chart: r.Chart, resource: "clusterroles", name: o.Name()}
		if o.Kind() == "Role" || o.Kind() == "RoleBinding" {
			g.namespace = namespaceOf(o, r.Namespace)
		}
		var err error
		switch o.Kind() {
		case "Role", "ClusterRole":
			if g, err = g.role(o); err == nil {
				out, rules[g.key()] = append(out, g), g.rules
			}
		case "RoleBinding", "ClusterRoleBinding":
			if g, err = g.binding(o); err == nil {
				bound = append(bound, g)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	for _, g := range bound {
		known, ok := rules[g.key()]
		g.rules, g.unknown = known, !ok
		out = append(out, g)
	}
	return out, nil
}

func (g grant) role(o chart.Object) (grant, error) {
	var role rbacv1.ClusterRole // a Role has no more
	err := decode(o, &role)
	g.verb, g.rules = "escalate", role.Rules
	if o.Kind() == "Role" {
		g.resource = "roles"
	}
	if role.AggregationRule != nil { // it may come to hold anything
		g.rules = append(g.rules, rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	return g, err
}

func (g grant) binding(o chart.Object) (grant, error) {
	var b rbacv1.RoleBinding // a ClusterRoleBinding has no more
	err := decode(o, &b)
	g.verb, g.name = "bind", b.RoleRef.Name
	if b.RoleRef.Kind == "Role" {
		g.resource = "roles"
	}
	return g, err
}

// key names the role.
func (g grant) key() string {
	if g.resource == "clusterroles" {
		return g.resource + "/" + g.name
	}
	return g.resource + "/" + g.namespace + "/" + g.name
}

// maxLacking bounds how many rights of a role are named that a user has not.
const maxLacking = 3

// ungranted reports the grants that the user may not make: for each chart,
// place and kind of role one finding that names the roles.
func (a rbacArguments) ungranted(ctx context.Context, r *reviews, grants []grant) ([]install.Finding, error) {
	var out []install.Finding
	type place struct{ chart, verb, resource, namespace string }
	var order []place
	roles := make(map[place][]string)
	for _, g := range grants {
		lacking, err := r.lacking(ctx, g)
		if err != nil {
			return nil, err
		}
		if len(lacking) == 0 {
			continue
		}
		p := place{g.chart, g.verb, g.resource, g.namespace}
		if roles[p] == nil {
			order = append(order, p)
		}
		roles[p] = append(roles[p], g.name+" ("+strings.Join(lacking, ", ")+")")
	}
	for _, p := range order {
		ask := authv1.ResourceAttributes{Group: rbacv1.GroupName, Resource: p.resource}
		detail := fmt.Sprintf("the user of the kubeconfig may not %s %s %s, and has not all the rights that chart %s gives with them: %s",
			p.verb, named(ask), where(p.namespace), p.chart, strings.Join(roles[p], "; "))
		out = append(out, a.Report(cluster.CodeForbidden, detail, map[string]string{
			"server": r.Server(), "user": "of the kubeconfig", "verb": p.verb, "resource": named(ask), "namespace": p.namespace,
		}))
	}
	return out, nil
}

// lacking lists rights that keep the user from a grant, at most maxLacking and
// dots; none if he may make it.
func (r *reviews) lacking(ctx context.Context, g grant) ([]string, error) {
	status, err := r.may(ctx, authv1.ResourceAttributes{Namespace: g.namespace, Verb: g.verb, Group: rbacv1.GroupName, Resource: g.resource, Name: g.name})
	if err != nil || status.Allowed {
		return nil, err
	}
	if g.unknown {
		return []string{"not a role of this chart"}, nil
	}
	var out []string
	for _, rule := range g.rules {
		for _, one := range single(rule, g.namespace) {
			ok, err := r.holds(ctx, one)
			if err != nil {
				return nil, err
			}
			if ok {
				continue
			}
			if len(out) == maxLacking {
				return append(out, "…"), nil
			}
			out = append(out, one.String())
		}
	}
	return out, nil
}

// right is one thing that a rule allows.
type right struct {
	authv1.ResourceAttributes
	path string // or a path of the API server
}

func (r right) String() string {
	if r.path != "" {
		return r.Verb + " " + r.path
	}
	return r.Verb + " " + named(r.ResourceAttributes)
}

// holds asks whether the user has a right. That an object is there already does
// not matter, as it does in may.
func (r *reviews) holds(ctx context.Context, one right) (bool, error) {
	key := "hold " + one.path + fmt.Sprintf("%q", one.ResourceAttributes)
	status, ok := r.known[key]
	if !ok {
		spec := authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &one.ResourceAttributes}
		if one.path != "" {
			spec = authv1.SelfSubjectAccessReviewSpec{NonResourceAttributes: &authv1.NonResourceAttributes{Verb: one.Verb, Path: one.path}}
		}
		var err error
		if status, err = r.review(ctx, spec); err != nil {
			return false, err
		}
		r.known[key] = status
	}
	return status.Allowed, nil
}

// single takes a rule apart, as the API server does.
func single(rule rbacv1.PolicyRule, namespace string) []right {
	var out []right
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, verb := range rule.Verbs {
		for _, path := range rule.NonResourceURLs {
			out = append(out, right{authv1.ResourceAttributes{Verb: verb}, path})
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				plural, sub, _ := strings.Cut(resource, "/")
				for _, name := range names {
					out = append(out, right{ResourceAttributes: authv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: plural, Subresource: sub, Name: name}})
				}
			}
		}
	}
	return out
}
