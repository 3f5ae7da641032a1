package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	authv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxReviews bounds how many questions one step asks.
const maxReviews = 2000

// RBAC is the probe k8s.rbac: may whoever installs do what the installation
// does? Every verb on every resource is asked (SelfSubjectAccessReview), nothing
// is tried. Its zero value is ready and safe for concurrent use.
type RBAC struct{}

type rbacArguments struct {
	cluster.Access
	Rules []rbacRule `json:"rules"`
}

// rbacRule is asked in each of its namespaces; without one, in the whole
// cluster. With names it is asked for these objects alone, and create only for
// those that are not there yet, looked for in version v1. A Namespace is an object in itself, which a Role
// there may give rights to.
type rbacRule struct {
	When       *bool    `json:"when"` // false: the installation does not do this; default true
	Verbs      []string `json:"verbs"`
	Resources  []string `json:"resources"` // name, name.group, or name/subresource
	Namespaces []string `json:"namespaces"`
	Names      []string `json:"names"`
}

// Codes implements install.Coder.
func (RBAC) Codes() map[string][]string { return cluster.General(nil) }

// Run asks everything and reports every refusal.
func (RBAC) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a rbacArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if in.GitOps {
		a.Rules = looking(a.Rules)
	}
	asks, err := a.asks()
	if err != nil {
		return install.Result{}, err
	}
	c, err := a.Open(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	var res install.Result
	for _, ask := range asks {
		needed, err := needed(ctx, c, ask)
		if err != nil {
			return a.Failed(c.Explain(err), nil)
		}
		if !needed {
			continue
		}
		review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &ask}}
		got, err := c.Clientset().AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return a.Failed(c.Explain(err), nil)
		}
		if got.Status.Allowed {
			continue
		}
		res.Findings = append(res.Findings, a.refused(c, ask, got.Status))
	}
	return res, nil
}

// looking leaves the verbs that change nothing. A rule without one asks nothing.
func looking(rules []rbacRule) []rbacRule {
	var out []rbacRule
	for _, r := range rules {
		r.Verbs = slices.DeleteFunc(slices.Clone(r.Verbs), func(v string) bool { return v != "get" && v != "list" && v != "watch" })
		if len(r.Verbs) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// needed says whether the installation will do what is asked: what is there
// already is not created. What may not be looked at is taken as not there.
func needed(ctx context.Context, c *cluster.Client, ask authv1.ResourceAttributes) (bool, error) {
	if ask.Verb != "create" || ask.Name == "" {
		return true, nil
	}
	r := c.Dynamic().Resource(schema.GroupVersionResource{Group: ask.Group, Version: "v1", Resource: ask.Resource})
	var err error
	if ask.Namespace == "" || ask.Resource == "namespaces" {
		_, err = r.Get(ctx, ask.Name, metav1.GetOptions{})
	} else {
		_, err = r.Namespace(ask.Namespace).Get(ctx, ask.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return true, nil
	}
	return false, err
}

func (a rbacArguments) refused(c *cluster.Client, ask authv1.ResourceAttributes, status authv1.SubjectAccessReviewStatus) install.Finding {
	resource := ask.Resource
	if ask.Group != "" {
		resource += "." + ask.Group
	}
	if ask.Subresource != "" {
		resource += "/" + ask.Subresource
	}
	if ask.Name != "" {
		resource += " " + ask.Name
	}
	where := " in the whole cluster"
	if ask.Namespace != "" {
		where = " in namespace " + ask.Namespace
	}
	detail := fmt.Sprintf("the user of the kubeconfig may not %s %s%s", ask.Verb, resource, where)
	if reason := status.Reason + status.EvaluationError; reason != "" {
		detail += ": " + cluster.Clean(reason)
	}
	return a.Report(cluster.CodeForbidden, detail, map[string]string{
		"server": c.Server(), "user": "of the kubeconfig", "verb": ask.Verb, "resource": resource, "namespace": ask.Namespace,
	})
}

// asks are the questions, each once, in the order of the rules.
func (a rbacArguments) asks() ([]authv1.ResourceAttributes, error) {
	if len(a.Rules) == 0 {
		return nil, errors.New("want rules: [{verbs, resources, namespaces}]")
	}
	var out []authv1.ResourceAttributes
	seen := make(map[authv1.ResourceAttributes]bool)
	for i, r := range a.Rules {
		if r.When != nil && !*r.When {
			continue
		}
		if len(r.Verbs) == 0 || len(r.Resources) == 0 {
			return nil, fmt.Errorf("rules[%d] has no verbs or no resources", i)
		}
		namespaces := r.Namespaces
		if len(namespaces) == 0 {
			namespaces = []string{""}
		}
		for _, ask := range r.asks(namespaces) {
			if !seen[ask] {
				seen[ask] = true
				out = append(out, ask)
			}
		}
	}
	if len(out) > maxReviews {
		return nil, fmt.Errorf("rules come to %d questions; at most %d are asked", len(out), maxReviews)
	}
	return out, nil
}

// asks are the questions of a rule.
func (r rbacRule) asks(namespaces []string) []authv1.ResourceAttributes {
	names := r.Names
	if len(names) == 0 {
		names = []string{""}
	}
	var out []authv1.ResourceAttributes
	for _, ns := range namespaces {
		for _, resource := range r.Resources {
			plural, sub, _ := strings.Cut(resource, "/")
			plural, group, _ := strings.Cut(plural, ".")
			for _, name := range names {
				where := ns
				if plural == "namespaces" && group == "" {
					where = name // what the server takes it for
				}
				for _, verb := range r.Verbs {
					out = append(out, authv1.ResourceAttributes{Namespace: where, Verb: verb, Group: group, Resource: plural, Subresource: sub, Name: name})
				}
			}
		}
	}
	return out
}
