package helm

import (
	"context"
	"maps"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What Helm wants of an object that is there before it takes it into a release.
const (
	ownedLabel     = "app.kubernetes.io/managed-by"
	ownedName      = "meta.helm.sh/release-name"
	ownedNamespace = "meta.helm.sh/release-namespace"
)

// types are the CustomResourceDefinitions among the chart's templates, as Helm
// would own them. They are part of the release, and the server applies them
// before it: a client's annotation cannot hold the largest, Helm makes its other
// objects before they serve, and one that came with another version of the chart
// (in its crds directory, of which Helm owns nothing) becomes the release's.
func (p *prepared) types() []chart.Object {
	var out []chart.Object
	for _, o := range stage(p.objects, isResource) {
		if o.Kind() != "CustomResourceDefinition" {
			continue
		}
		tree := maps.Clone(o.Tree)
		meta := with(tree["metadata"], nil)
		meta["labels"] = with(meta["labels"], map[string]any{ownedLabel: "Helm"})
		meta["annotations"] = with(meta["annotations"], map[string]any{ownedName: p.a.Release, ownedNamespace: p.a.Namespace})
		tree["metadata"] = meta
		o.Tree = tree
		out = append(out, o)
	}
	return out
}

func with(have any, more map[string]any) map[string]any {
	out := make(map[string]any)
	if m, ok := have.(map[string]any); ok {
		maps.Copy(out, m)
	}
	maps.Copy(out, more)
	return out
}

// claim says whether a type of the templates may be applied, and whether fields
// of other managers are the release's own: what Helm itself has made of it. A
// type of somebody else is a *trouble.
func (j *job) claim(ctx context.Context, o chart.Object) (force bool, err error) {
	have, err := j.s.cluster.found(ctx, Ref{APIVersion: o.APIVersion(), Kind: o.Kind(), Name: o.Name()})
	if err != nil || have == nil {
		return false, err
	}
	name, in := have.GetAnnotations()[ownedName], have.GetAnnotations()[ownedNamespace]
	reason := "it is there, and no release of Helm has made it"
	switch {
	case name == j.a.Release && in == j.a.Namespace && have.GetLabels()[ownedLabel] == "Helm":
		return true, nil
	case name != "":
		reason = "it is of release " + name + " in namespace " + in
	case kube.Made(have):
		return false, nil
	}
	object := kube.Name(have)
	reason = kube.Clean(reason)
	return false, &trouble{install.Finding{Code: codeConflict, Detail: object + ": " + reason, Fields: map[string]string{
		"release": j.a.Release, "object": object, "reason": reason,
	}}}
}

// found implements target.
func (l *live) found(ctx context.Context, r Ref) (*unstructured.Unstructured, error) {
	_, missing, err := l.look(ctx, []Ref{r})
	if err != nil || len(missing) > 0 {
		return nil, err
	}
	return l.read(ctx, r)
}
