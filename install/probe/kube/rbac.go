package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
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
// is tried. What a chart needs is read out of the chart. Its zero value is ready
// and safe for concurrent use; it knows no charts.
type RBAC struct {
	// Render renders the objects of a step helm.release with the arguments in
	// With, those of hooks too.
	Render func(ctx context.Context, in install.Input) ([]chart.Object, error)
}

type rbacArguments struct {
	cluster.Access
	Rules  []rbacRule  `json:"rules"`
	Charts []rbacChart `json:"charts"`
}

// rbacRule is asked in each of its namespaces; without one, in the whole
// cluster. With names it is asked for these objects alone, and create only for
// those that are not there yet, looked for in version v1. A Namespace is an
// object in itself, which a Role there may give rights to.
type rbacRule struct {
	When       *bool    `json:"when"` // false: the installation does not do this; default true
	Verbs      []string `json:"verbs"`
	Resources  []string `json:"resources"` // name, name.group, or name/subresource
	Namespaces []string `json:"namespaces"`
	Names      []string `json:"names"`
	GitOps     *bool    `json:"gitops"` // false: nor where something else applies objects; default true
}

// Codes implements install.Coder.
func (RBAC) Codes() map[string][]string { return cluster.General(nil) }

// Run asks everything and reports every refusal.
func (k RBAC) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a rbacArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if err := a.check(); err != nil {
		return install.Result{}, err
	}
	c, err := a.Open(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	asks, grants, findings, err := k.needs(ctx, c, in, a)
	if err != nil {
		return a.Failed(c.Explain(err), nil)
	}
	if in.GitOps {
		// Whoever applies the objects makes and grants; here is only looked.
		asks, grants = looking(asks), nil
	}
	res := install.Result{Findings: findings}
	r := &reviews{Client: c, known: make(map[string]authv1.SubjectAccessReviewStatus), most: maxReviews}
	for _, ask := range once(asks) {
		status, err := r.may(ctx, ask)
		if err != nil {
			return a.Failed(c.Explain(err), nil)
		}
		if !status.Allowed {
			res.Findings = append(res.Findings, a.refused(c, ask, status))
		}
	}
	refusals, err := a.ungranted(ctx, r, grants)
	if err != nil {
		return a.Failed(c.Explain(err), nil)
	}
	res.Findings = append(res.Findings, refusals...)
	return res, nil
}

// needs is what rules and charts come to, and what is found wrong with charts.
func (k RBAC) needs(ctx context.Context, c *cluster.Client, in install.Input, a rbacArguments) (asks []authv1.ResourceAttributes, grants []grant, findings []install.Finding, err error) {
	asks = a.asks(in.GitOps)
	for _, rel := range a.Charts {
		if rel.When != nil && !*rel.When {
			continue
		}
		objects, err := k.render(ctx, in, a.Access, rel)
		if err != nil {
			f, ok := a.Finding(err, nil)
			if !ok {
				// Its own item says so too, with what to do.
				f = install.Finding{Severity: install.SeverityWarn, Detail: "rights for chart " + rel.Chart + " are not asked for: " + cluster.Clean(err.Error())}
			}
			findings = append(findings, f)
			continue
		}
		questions := rel.asks
		if in.GitOps {
			questions = rel.looks
		}
		more, err := questions(ctx, c, objects)
		if err != nil {
			return nil, nil, nil, err
		}
		given, err := rel.grants(objects)
		if err != nil {
			return nil, nil, nil, err
		}
		asks, grants = append(asks, more...), append(grants, given...)
	}
	return asks, grants, findings, nil
}

// once leaves out what was asked before.
func once(asks []authv1.ResourceAttributes) []authv1.ResourceAttributes {
	seen := make(map[authv1.ResourceAttributes]bool)
	return slices.DeleteFunc(asks, func(a authv1.ResourceAttributes) bool {
		defer func() { seen[a] = true }()
		return seen[a]
	})
}

// reviews are the answers of a cluster to what was asked; each is asked once.
type reviews struct {
	*cluster.Client
	known map[string]authv1.SubjectAccessReviewStatus
	most  int // questions
}

// may asks whether something is allowed. What is not needed is.
func (r *reviews) may(ctx context.Context, ask authv1.ResourceAttributes) (authv1.SubjectAccessReviewStatus, error) {
	key := fmt.Sprintf("%q", ask)
	if status, ok := r.known[key]; ok {
		return status, nil
	}
	needed, err := needed(ctx, r.Client, ask)
	if err != nil {
		return authv1.SubjectAccessReviewStatus{}, err
	}
	status := authv1.SubjectAccessReviewStatus{Allowed: true}
	if needed {
		if status, err = r.review(ctx, authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &ask}); err != nil {
			return status, err
		}
	}
	r.known[key] = status
	return status, nil
}

func (r *reviews) review(ctx context.Context, spec authv1.SelfSubjectAccessReviewSpec) (authv1.SubjectAccessReviewStatus, error) {
	if len(r.known) >= r.most {
		return authv1.SubjectAccessReviewStatus{}, fmt.Errorf("rules and charts come to more than %d questions", r.most)
	}
	got, err := r.Clientset().AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return authv1.SubjectAccessReviewStatus{}, err
	}
	return got.Status, nil
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

// named is a resource as the rules have it.
func named(ask authv1.ResourceAttributes) string {
	out := ask.Resource
	if ask.Group != "" {
		out += "." + ask.Group
	}
	if ask.Subresource != "" {
		out += "/" + ask.Subresource
	}
	if ask.Name != "" {
		out += " " + ask.Name
	}
	return out
}

// where says in which part of a cluster something is done.
func where(namespace string) string {
	if namespace == "" {
		return "in the whole cluster"
	}
	return "in namespace " + namespace
}

func (a rbacArguments) refused(c *cluster.Client, ask authv1.ResourceAttributes, status authv1.SubjectAccessReviewStatus) install.Finding {
	detail := fmt.Sprintf("the user of the kubeconfig may not %s %s %s", ask.Verb, named(ask), where(ask.Namespace))
	if reason := status.Reason + status.EvaluationError; reason != "" {
		detail += ": " + cluster.Clean(reason)
	}
	return a.Report(cluster.CodeForbidden, detail, map[string]string{
		"server": c.Server(), "user": "of the kubeconfig", "verb": ask.Verb, "resource": named(ask), "namespace": ask.Namespace,
	})
}

func (a rbacArguments) check() error {
	if len(a.Rules)+len(a.Charts) == 0 {
		return errors.New("want rules: [{verbs, resources, namespaces}] or charts: [{chart, namespace}]")
	}
	for i, r := range a.Rules {
		if (r.When == nil || *r.When) && (len(r.Verbs) == 0 || len(r.Resources) == 0) {
			return fmt.Errorf("rules[%d] has no verbs or no resources", i)
		}
	}
	for i, r := range a.Charts {
		if (r.When == nil || *r.When) && (r.Chart == "" || r.Namespace == "") {
			return fmt.Errorf("charts[%d] has no chart or no namespace", i)
		}
	}
	return nil
}

// asks are the questions of the rules, in their order.
func (a rbacArguments) asks(gitops bool) []authv1.ResourceAttributes {
	var out []authv1.ResourceAttributes
	for _, r := range a.Rules {
		if r.When != nil && !*r.When || gitops && r.GitOps != nil && !*r.GitOps {
			continue
		}
		namespaces := r.Namespaces
		if len(namespaces) == 0 {
			namespaces = []string{""}
		}
		out = append(out, r.asks(namespaces)...)
	}
	return out
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
