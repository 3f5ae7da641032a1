package helm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/release"
)

// keyed holds objects by kind and name, lists taken apart.
type keyed map[objectKey]chart.Object

// objectKey tells objects apart: two groups may have a kind of the same name.
type objectKey struct {
	name  string // Deployment web, or Deployment kube-system/web
	group string // of the API
}

// label is a key for people; twice says that the name alone is not enough.
func (k objectKey) label(twice bool) string {
	if kind, name, ok := strings.Cut(k.name, " "); ok && twice && k.group != "" {
		return kind + "." + k.group + " " + name
	}
	return k.name
}

// key is that of an object that is no list.
func key(tree map[string]any, namespace string) objectKey {
	r := refsOf(tree)[0]
	if r.Namespace == namespace {
		r.Namespace = "" // Helm's default, said or not
	}
	group, _, ok := strings.Cut(r.APIVersion, "/")
	if !ok {
		group = ""
	}
	return objectKey{kube.Clean(r.String()), group}
}

func index(objects []chart.Object, namespace string) keyed {
	out := make(keyed)
	for _, o := range objects {
		for _, tree := range flat(o.Tree) {
			out[key(tree, namespace)] = chart.Object{Source: o.Source, Stage: o.Stage, Tree: tree}
		}
	}
	return out
}

// rename gives objects of old whose names are random those that they have now:
// an object that has another name each time is the one of the same template and
// kind.
func (k keyed) rename(fresh, again keyed) {
	alike := func(in, other keyed, o chart.Object) (objectKey, bool) {
		for _, name := range slices.SortedFunc(maps.Keys(in), objectKey.compare) {
			if c := in[name]; c.Source == o.Source && c.Kind() == o.Kind() && !other.has(name) {
				return name, true
			}
		}
		return objectKey{}, false
	}
	for _, now := range slices.SortedFunc(maps.Keys(fresh), objectKey.compare) {
		if again.has(now) || k.has(now) {
			continue
		}
		was, ok := alike(k, fresh, fresh[now])
		next, random := alike(again, fresh, fresh[now])
		if !ok || !random {
			continue
		}
		k[now], again[now] = k[was], again[next]
		delete(k, was)
		delete(again, next)
	}
}

func (k keyed) has(name objectKey) bool { _, ok := k[name]; return ok }

func (k objectKey) compare(o objectKey) int {
	return cmp.Or(cmp.Compare(k.name, o.name), cmp.Compare(k.group, o.group))
}

// recorded reads the objects of a revision: resources and hooks apart.
func recorded(r *release.Release) (resources, hooks []chart.Object, err error) {
	if resources, err = chart.Parse(r.Manifest); err != nil {
		return nil, nil, fmt.Errorf("read revision %d of release %s: %w", r.Version, r.Name, err)
	}
	for _, h := range r.Hooks {
		list, err := chart.Parse(h.Manifest)
		if err != nil {
			return nil, nil, fmt.Errorf("read revision %d of release %s: hook %s: %w", r.Version, r.Name, h.Path, err)
		}
		for _, o := range list {
			o.Source = h.Path
			hooks = append(hooks, o)
		}
	}
	return resources, hooks, nil
}

// difference is what a release would change, object by object.
type difference struct {
	added, changed, removed int
	lines                   []string // for people; no value of a Secret
	rollouts                []string // keys of workloads whose pods change
}

func (d difference) none() bool { return d.added+d.changed+d.removed == 0 }

func (d difference) String() string {
	return fmt.Sprintf("%d objects added, %d changed, %d removed", d.added, d.changed, d.removed)
}

// maxPaths bounds the changed fields that are told of one object.
const maxPaths = 20

// compare compares a revision (nil: none) with what would be. Fields that are
// random, so that rendering twice gives two values, say nothing.
func (p *prepared) compare(r *release.Release) (difference, error) {
	var d difference
	for _, keep := range []func(chart.Stage) bool{isResource, isHook} {
		old := keyed{}
		if r != nil {
			resources, hooks, err := recorded(r)
			if err != nil {
				return d, err
			}
			old = index(resources, p.a.Namespace)
			if keep(chart.StageOther) {
				old = index(hooks, p.a.Namespace)
			}
		}
		d.add(old, index(stage(p.objects, keep), p.a.Namespace), index(stage(p.again, keep), p.a.Namespace))
	}
	return d, nil
}

func (d *difference) add(old, fresh, again keyed) {
	old.rename(fresh, again)
	keys := slices.AppendSeq(slices.Collect(maps.Keys(old)), maps.Keys(fresh))
	slices.SortFunc(keys, objectKey.compare)
	keys = slices.Compact(keys)
	for i, k := range keys {
		before, was := old[k]
		after, is := fresh[k]
		name := k.label(i > 0 && keys[i-1].name == k.name || i+1 < len(keys) && keys[i+1].name == k.name)
		switch {
		case !was:
			d.added++
			d.lines = append(d.lines, "add "+name)
		case !is:
			d.removed++
			d.lines = append(d.lines, removal(name, before))
		default:
			var paths []string
			differ("", before.Tree, after.Tree, again[k].Tree, after.Kind() == "Secret", &paths)
			if len(paths) == 0 {
				continue
			}
			d.changed++
			if slices.ContainsFunc(paths, func(s string) bool { return strings.HasPrefix(s, "spec.template.") }) {
				d.rollouts = append(d.rollouts, name)
			}
			if n := len(paths); n > maxPaths {
				paths = append(paths[:maxPaths], fmt.Sprintf("and %d more fields", n-maxPaths))
			}
			d.lines = append(d.lines, "change "+name+": "+strings.Join(paths, ", "))
		}
	}
}

// removal is the line of an object that the release has no longer.
func removal(name string, o chart.Object) string {
	switch {
	case kept(o):
		return "leave " + name + " where it is, the release has it no longer"
	case slices.Contains(holders, o.Kind()) || o.Kind() == "CustomResourceDefinition":
		return "remove " + name + " with all that is in it"
	}
	return "remove " + name
}

// differ lists the fields in which a and b differ. Where b and again differ the
// chart makes up a value each time.
func differ(at string, a, b, again any, secret bool, out *[]string) {
	if reflect.DeepEqual(a, b) {
		return
	}
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		gm, _ := again.(map[string]any)
		keys := slices.AppendSeq(slices.Collect(maps.Keys(am)), maps.Keys(bm))
		slices.Sort(keys)
		for _, k := range slices.Compact(keys) {
			differ(join(at, k), am[k], bm[k], gm[k], secret, out)
		}
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	gl, gok := again.([]any)
	if aok && bok && gok && len(al) == len(bl) && len(bl) == len(gl) {
		for i := range al {
			differ(fmt.Sprintf("%s[%d]", at, i), al[i], bl[i], gl[i], secret, out)
		}
		return
	}
	if !reflect.DeepEqual(b, again) {
		return
	}
	*out = append(*out, at+shown(at, a, b, secret))
}

// shown gives the values of a change where they cannot be secret: numbers,
// switches and images.
func shown(at string, a, b any, secret bool) string {
	if secret {
		return ""
	}
	from, okA := a.(string)
	to, okB := b.(string)
	if okA && okB && strings.HasSuffix(at, ".image") {
		return fmt.Sprintf(" (%s -> %s)", kube.Clean(from), kube.Clean(to))
	}
	for _, v := range []any{a, b} {
		switch v.(type) {
		case nil, bool, json.Number:
		default:
			return ""
		}
	}
	text := func(v any) string {
		if v == nil {
			return "unset"
		}
		return fmt.Sprint(v)
	}
	return fmt.Sprintf(" (%s -> %s)", text(a), text(b))
}

func join(at, name string) string {
	if strings.ContainsAny(name, ".[]/") {
		return fmt.Sprintf("%s[%q]", at, name)
	}
	if at == "" {
		return name
	}
	return at + "." + name
}

// same says whether a revision holds exactly what would be, by the same chart and
// the same values.
func (p *prepared) same(r *release.Release) bool {
	if p.a.Map == nil || !p.alike(r) {
		return false
	}
	d, err := p.compare(r)
	return err == nil && d.none()
}

// alike says whether a revision was made of the same chart and the same values.
func (p *prepared) alike(r *release.Release) bool {
	return r.Labels[labelChart] == p.sum() && equalJSON(r.Config, p.values)
}

// equalJSON compares values as they are recorded.
func equalJSON(a, b map[string]any) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// evidence is the manifest of a release without the data of Secrets.
func evidence(objects []chart.Object) ([]byte, error) {
	objects = slices.Clone(objects)
	for i := range objects {
		objects[i].Tree = masked(objects[i].Tree)
	}
	text, err := charts.Join(objects)
	return []byte(text), err
}

// masked is an object, the values of a Secret left out.
func masked(tree map[string]any) map[string]any {
	tree = maps.Clone(tree)
	if items, ok := tree["items"].([]any); ok {
		list := make([]any, len(items))
		for i, v := range items {
			list[i] = v
			if m, ok := v.(map[string]any); ok {
				list[i] = masked(m)
			}
		}
		tree["items"] = list
	}
	if tree["kind"] != "Secret" {
		return tree
	}
	for _, k := range []string{"data", "stringData"} {
		if m, ok := tree[k].(map[string]any); ok {
			hidden := make(map[string]any, len(m))
			for name := range m {
				hidden[name] = "(not shown)"
			}
			tree[k] = hidden
		}
	}
	return tree
}
