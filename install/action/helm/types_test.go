package helm

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/internal/kube"
)

// TestTypesServed: fields of a type are taken over only where that is asked for,
// and nothing goes on before the type serves.
func TestTypesServed(t *testing.T) {
	for _, force := range []bool{false, true} {
		f, b, in := newFake(), carry(t, demoChart(), ""), input(t, map[string]any{"force_crds": force})
		f.plan(t, b, in)
		if len(f.served) > 0 {
			t.Errorf("a plan waits for %q", f.served)
		}
		f.apply(t, b, in)
		if !slices.Equal(f.served, []string{"gadgets.demo.test"}) {
			t.Errorf("it waits for %q", f.served)
		}
		if got := slices.Contains(f.forced, "gadgets.demo.test"); got != force {
			t.Errorf("with force_crds %v: taken over %v", force, got)
		}
	}
}

// TestClaim: a type among the templates is the release's own, one that an earlier
// chart's crds brought, or somebody else's.
func TestClaim(t *testing.T) {
	o, err := chart.Parse(gadgets("a gadget"))
	if err != nil {
		t.Fatal(err)
	}
	const ours, made = "Helm", kube.Manager
	for name, c := range map[string]struct {
		label       string
		annotations map[string]any
		force, ok   bool
	}{
		"its own":                {ours, map[string]any{annotationName: "prod", annotationNamespace: "apps"}, true, true},
		"its own, made here":     {ours, map[string]any{annotationName: "prod", annotationNamespace: "apps", kube.AnnotationMade: made}, true, true},
		"of the crds directory":  {"", map[string]any{kube.AnnotationMade: made}, false, true},
		"nobody's":               {"", nil, false, false},
		"of another's namespace": {ours, map[string]any{annotationName: "prod", annotationNamespace: "elsewhere"}, false, false},
		"of another release":     {ours, map[string]any{annotationName: "other", annotationNamespace: "apps", kube.AnnotationMade: made}, false, false},
	} {
		f := newFake()
		raw, err := json.Marshal(map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": kindCRD, "metadata": map[string]any{
			"name": "gadgets.demo.test", "labels": map[string]any{labelManaged: c.label}, "annotations": c.annotations,
		}})
		if err != nil {
			t.Fatal(err)
		}
		f.crds["gadgets.demo.test"] = string(raw)
		j := &job{a: arguments{Release: "prod", Namespace: "apps"}, s: &session{cluster: f}}
		force, err := j.claim(t.Context(), o[0])
		_, taken := errors.AsType[*trouble](err)
		if force != c.force || taken == c.ok || err != nil && !taken {
			t.Errorf("%s: force %v, %v", name, force, err)
		}
	}
}
