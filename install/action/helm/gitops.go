package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// annotationRelease, on every object of a tree, is the release it is of.
	annotationRelease = "airlock-project.io/release"
	// annotationHook is what a hook was in the chart.
	annotationHook = "airlock-project.io/helm-hook"
	helmHook       = "helm.sh/hook"
)

// Objects implements install.Renderer. Hooks become plain objects in their turn:
// Argo CD would run those of every chart before anything else of the tree is
// there, and Flux knows none. A Job among them stays when it is done, and is
// replaced when it changes. In a plan the map of the images may be known later:
// they stay as the chart names them.
func (Action) Objects(ctx context.Context, in install.Input) ([]install.Manifest, error) {
	return manifestsOf(ctx, in.Bundle, in)
}

func manifestsOf(ctx context.Context, b charts.Carrier, in install.Input) ([]install.Manifest, error) {
	a, err := decode(in, !in.Preview)
	if err != nil {
		return nil, err
	}
	p, err := prepare(ctx, b, a, in.Values, nil)
	if err != nil {
		return nil, err
	}
	if err := p.steady(); err != nil {
		return nil, err
	}
	var out []install.Manifest
	if a.CreateNamespace {
		out = append(out, install.Manifest{Tree: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": a.Namespace}}})
	}
	g := grouping{}
	for _, o := range p.placed() {
		for _, tree := range flat(o.Tree) {
			tree, err := clone(tree)
			if err != nil {
				return nil, err
			}
			single := chart.WithNamespace([]chart.Object{{Stage: o.Stage, Tree: tree}}, a.Namespace)[0]
			group := g.next(single)
			plain(single.Tree, o.Stage, a.Release)
			out = append(out, install.Manifest{Tree: single.Tree, Group: group})
		}
	}
	return out, nil
}

// steady refuses a chart that renders something else each time: a tree of it
// would never be what is wanted.
func (p *prepared) steady() error {
	var random []string
	for i, o := range p.objects {
		if i >= len(p.again) || !reflect.DeepEqual(o.Tree, p.again[i].Tree) {
			random = append(random, o.Kind()+" "+o.Name())
		}
	}
	if len(random) == 0 {
		return nil
	}
	return fmt.Errorf("chart %s renders %s with random data, another each time: files cannot hold that; set it in its values", p.a.Chart, strings.Join(random, ", "))
}

// grouping numbers what has to be ready before the next: hooks by weight, and of
// each weight what Jobs need before the Jobs.
type grouping struct {
	last string
	n    int
}

func (g *grouping) next(o chart.Object) int {
	at := fmt.Sprint(o.Stage)
	if isHook(o.Stage) {
		notes, _ := metadata(o.Tree)["annotations"].(map[string]any)
		at = fmt.Sprint(o.Stage, notes["helm.sh/hook-weight"], o.Kind() == "Job")
	}
	if at != g.last {
		g.last = at
		g.n++
	}
	return g.n
}

func metadata(tree map[string]any) map[string]any {
	m, _ := tree["metadata"].(map[string]any)
	if m == nil {
		m = make(map[string]any)
		tree["metadata"] = m
	}
	return m
}

// plain makes an object of a release one that anything can apply.
func plain(tree map[string]any, stage chart.Stage, release string) {
	meta := metadata(tree)
	notes, _ := meta["annotations"].(map[string]any)
	if notes == nil {
		notes = make(map[string]any)
		meta["annotations"] = notes
	}
	notes[annotationRelease] = release
	if isHook(stage) {
		notes[annotationHook] = notes[helmHook]
		for _, k := range []string{helmHook, "helm.sh/hook-weight", "helm.sh/hook-delete-policy", "helm.sh/hook-output-log-policy"} {
			delete(notes, k)
		}
	}
	if tree["kind"] != "Job" {
		return
	}
	// A Job's template cannot be changed, and one that removes itself would be made
	// again for ever.
	notes["argocd.argoproj.io/sync-options"], notes["kustomize.toolkit.fluxcd.io/force"] = "Force=true,Replace=true", "enabled"
	if spec, ok := tree["spec"].(map[string]any); ok {
		delete(spec, "ttlSecondsAfterFinished")
	}
}

func clone(tree map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("copy an object: %w", err)
	}
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("copy an object: %w", err)
	}
	return out, nil
}

// flat takes lists apart.
func flat(tree map[string]any) []map[string]any {
	items, ok := tree["items"].([]any)
	kind, _ := tree["kind"].(string)
	if !ok || !strings.HasSuffix(kind, "List") {
		return []map[string]any{tree}
	}
	var out []map[string]any
	for _, v := range items {
		if m, ok := v.(map[string]any); ok {
			out = append(out, flat(m)...)
		}
	}
	return out
}

// Held implements install.Renderer. There is no release of Helm: its outputs are
// revision 0 and status applied, with images and objects as Apply has them.
func (Action) Held(ctx context.Context, in install.Input, want []install.Manifest) (install.Holding, error) {
	a, err := decode(in, true)
	if err != nil {
		return install.Holding{}, err
	}
	client, err := kube.Open(ctx, kube.Config{Kubeconfig: a.Kubeconfig, Context: a.Context})
	var waits []string
	if err == nil {
		waits, err = client.Held(ctx, want, a.Namespace)
	}
	if err != nil {
		res, err := kube.Access{Codes: a.Codes}.Failed(err, map[string]string{"namespace": a.Namespace})
		return install.Holding{Result: res}, err
	}
	objects, list := []any{}, make([]chart.Object, len(want))
	for i, m := range want {
		o := m.Object()
		ref := map[string]any{"apiVersion": o.APIVersion, "kind": o.Kind, "name": o.Name}
		if o.Namespace != "" {
			ref["namespace"] = o.Namespace
		}
		objects, list[i] = append(objects, ref), chart.Object{Tree: m.Tree}
	}
	return install.Holding{Waits: waits, Result: install.Result{Outputs: map[string]any{
		"helm.revision": 0, "helm.status": "applied", "helm.images": imagesOf(list), "helm.objects": objects,
	}}}, nil
}

// applied looks at a release that something else applied from a tree: at its
// workloads.
func (w wanted) applied(ctx context.Context) (install.Result, error) {
	client, err := kube.Open(ctx, kube.Config{Kubeconfig: w.Kubeconfig, Context: w.Context})
	if err != nil {
		return kube.Access{}.Failed(err, map[string]string{"namespace": w.Namespace})
	}
	found, open, err := w.rollouts(ctx, client)
	if err != nil {
		return kube.Access{}.Failed(err, map[string]string{"namespace": w.Namespace})
	}
	have, reason := "", ""
	switch {
	case found == 0:
		have, reason = "not there", "no workload in the namespace is of it"
	case len(open) > 0:
		have, reason = "not ready", some(open)
	default:
		return install.Result{Outputs: map[string]any{"helm.revision": 0, "helm.status": "applied", "helm.version": ""}}, nil
	}
	return install.Result{Findings: []install.Finding{{
		Code: w.Code, Detail: fmt.Sprintf("release %s in namespace %s is %s: %s", w.Release, w.Namespace, have, reason),
		Fields: map[string]string{"release": w.Release, "namespace": w.Namespace, "want": "applied", "have": have, "reason": reason},
	}}}, nil
}

// maxOpen is how many workloads are named that are not ready.
const maxOpen = 10

// some joins the first of a list, and says how many follow.
func some(list []string) string {
	if more := len(list) - maxOpen; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:maxOpen], "; "), more)
	}
	return strings.Join(list, "; ")
}

// rollouts counts the workloads of the release and says which are not ready.
func (w wanted) rollouts(ctx context.Context, c *kube.Client) (found int, open []string, err error) {
	ours := func(o *metav1.ObjectMeta) bool { return o.Annotations[annotationRelease] == w.Release }
	for _, kind := range []struct {
		name     kube.WorkloadKind
		resource string
	}{{kube.KindDeployment, "deployments"}, {kube.KindStatefulSet, "statefulsets"}, {kube.KindDaemonSet, "daemonsets"}} {
		names, err := c.Find(ctx, schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: kind.resource}, w.Namespace, ours, 0)
		if err != nil {
			return 0, nil, err
		}
		found += len(names)
		for _, name := range names {
			r, err := c.Rollout(ctx, kind.name, w.Namespace, name)
			if err != nil {
				return 0, nil, err
			}
			if !r.Done {
				open = append(open, fmt.Sprintf("%s %s: %s", kind.name, name, r.Reason))
			}
		}
	}
	return found, open, nil
}
