package helm

import (
	"context"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
)

// Preview renders the objects of a step of this kind, those of all its hooks
// too, with their namespaces and the images as the chart names them. Templates
// see the cluster as they will when it is installed; nothing is changed there. A
// chart that is not carried and values that do not fit are errors.
func Preview(ctx context.Context, in install.Input) ([]chart.Object, error) {
	a, err := decode(in, false)
	if err != nil {
		return nil, err
	}
	s, err := Action{}.session(ctx, a)
	if err != nil {
		return nil, err
	}
	view, err := s.view(1, false)
	if err != nil {
		return nil, err
	}
	p, err := prepare(ctx, in.Bundle, a, in.Values, view)
	if err != nil {
		return nil, err
	}
	return chart.WithNamespace(p.objects, a.Namespace), nil
}
