package kube

import (
	"context"
	"slices"

	"github.com/airlock-project/airlock/bundle/chart"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	authv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// looking leaves the verbs with which Airlock looks where something else applies
// objects: it never waits for changes.
func looking(asks []authv1.ResourceAttributes) []authv1.ResourceAttributes {
	return slices.DeleteFunc(asks, func(a authv1.ResourceAttributes) bool { return a.Verb != "get" && a.Verb != "list" })
}

// looks are the questions about a release that something else applies: whether
// its objects are there, hooks too, and whether its workloads are ready.
func (r rbacChart) looks(ctx context.Context, c *cluster.Client, objects []chart.Object) ([]authv1.ResourceAttributes, error) {
	var out []authv1.ResourceAttributes
	add := func(verb, group, resource, namespace string) {
		out = append(out, authv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Namespace: namespace})
	}
	types := typesOf(objects)
	for _, o := range objects {
		if o.Kind() == "" || o.Stage == chart.StageOther {
			continue // no tree has it
		}
		gr, namespaced, err := resourceOf(ctx, c, types, o)
		if err != nil {
			return nil, err
		}
		namespace := ""
		if namespaced {
			namespace = namespaceOf(o, r.Namespace)
		}
		add("get", gr.Group, gr.Resource, namespace)
		if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, o.Kind()) {
			// Why pods are not ready.
			add("list", "", "pods", namespace)
			add("list", "", "events", namespace)
			out = append(out, authv1.ResourceAttributes{Verb: "get", Resource: "pods", Subresource: "log", Namespace: namespace})
		}
		if o.Kind() == "Deployment" {
			add("list", "apps", "replicasets", namespace)
		}
	}
	// A release is its workloads: nobody keeps a record of it.
	for _, gr := range []schema.GroupResource{{Group: "apps", Resource: "deployments"}, {Group: "apps", Resource: "statefulsets"}, {Group: "apps", Resource: "daemonsets"}} {
		add("list", gr.Group, gr.Resource, r.Namespace)
	}
	return out, nil
}
