package helm

import (
	"context"
	"maps"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/internal/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const kindCRD = "CustomResourceDefinition"

// types are the CustomResourceDefinitions among the chart's templates, as Helm
// would own them. They are part of the release, and the server applies them
// before it: a client's annotation cannot hold the largest, Helm makes its other
// objects before they serve, and one that came with another version of the chart
// (in its crds directory, of which Helm owns nothing) becomes the release's.
func (p *prepared) types() []chart.Object {
	var out []chart.Object
	for _, o := range stage(p.objects, isResource) {
		if o.Kind() != kindCRD {
			continue
		}
		tree := maps.Clone(o.Tree)
		meta := with(tree["metadata"], nil)
		meta["labels"] = with(meta["labels"], map[string]any{labelManaged: "Helm"})
		meta["annotations"] = with(meta["annotations"], map[string]any{annotationName: p.a.Release, annotationNamespace: p.a.Namespace})
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
	ref := Ref{APIVersion: o.APIVersion(), Kind: o.Kind(), Name: o.Name()}
	have, err := j.s.cluster.found(ctx, ref)
	if err != nil || have == nil {
		return false, err
	}
	reason := others(have, j.a.Release, j.a.Namespace)
	switch {
	case reason == "":
		return true, nil
	case have.GetAnnotations()[annotationName] == "" && kube.Made(have):
		return false, nil
	}
	return false, taken(j.a.Release, ref, reason)
}

// found implements target.
func (l *live) found(ctx context.Context, r Ref) (*unstructured.Unstructured, error) {
	_, missing, err := l.look(ctx, []Ref{r})
	if err != nil || len(missing) > 0 {
		return nil, err
	}
	return l.read(ctx, r)
}
