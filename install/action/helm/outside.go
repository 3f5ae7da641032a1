package helm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/internal/kube"
)

// maxOutside bounds the objects that are told apart in one line.
const maxOutside = 50

// outside says of what a release has outside its namespace: objects of other
// namespaces and of the whole cluster. Types of the crds directory are told of
// where they change. Of a kind that nobody knows yet it goes by what the object
// says.
func (p *prepared) outside() []string {
	var elsewhere, wide []string
	var single []chart.Object
	for _, o := range p.objects {
		for _, tree := range flat(o.Tree) {
			single = append(single, chart.Object{Stage: o.Stage, Tree: tree})
		}
	}
	for _, o := range chart.WithNamespace(single, p.a.Namespace) {
		if o.Stage == chart.StageCRD {
			continue
		}
		r := refsOf(o.Tree)[0]
		text := kube.Clean(r.String() + role(o))
		if isHook(o.Stage) {
			text += " (hook)"
		}
		switch {
		case r.Namespace == p.a.Namespace:
		case r.Namespace != "":
			elsewhere = append(elsewhere, text)
		case chart.ClusterScoped(o) || p.defined(o) == "Cluster":
			wide = append(wide, text)
		}
	}
	var out []string
	if len(elsewhere) > 0 {
		out = append(out, "in other namespaces: "+several(elsewhere))
	}
	if len(wide) > 0 {
		out = append(out, "for the whole cluster: "+several(wide))
	}
	return out
}

// careful are the lines of a plan that a person should not miss.
func (p *prepared) careful(read *lookups) []string {
	var out []string
	for _, text := range p.outside() {
		out = append(out, "careful: it has objects "+text)
	}
	if read != nil {
		if list := read.foreign(); len(list) > 0 {
			out = append(out, "careful: its templates read "+several(list))
		}
	}
	for _, text := range p.unknown {
		out = append(out, "careful: left out, as Helm does: "+kube.Clean(text))
	}
	return out
}

// several lists objects, each once, not too many.
func several(list []string) string {
	slices.Sort(list)
	list = slices.Compact(list)
	if n := len(list); n > maxOutside {
		list = append(list[:maxOutside:maxOutside], fmt.Sprintf("and %d more", n-maxOutside))
	}
	return strings.Join(list, ", ")
}

// role is what a binding grants.
func role(o chart.Object) string {
	if !strings.HasSuffix(o.Kind(), "RoleBinding") {
		return ""
	}
	ref, _ := o.Tree["roleRef"].(map[string]any)
	kind, _ := ref["kind"].(string)
	name, _ := ref["name"].(string)
	return fmt.Sprintf(" (grants %s %s)", kind, name)
}

// defined is the scope that a CustomResourceDefinition among the objects gives to
// the kind of another; "" if there is none.
func (p *prepared) defined(o chart.Object) string {
	group, _, _ := strings.Cut(o.APIVersion(), "/")
	for _, d := range p.objects {
		spec, _ := d.Tree["spec"].(map[string]any)
		names, _ := spec["names"].(map[string]any)
		if d.Kind() == "CustomResourceDefinition" && spec["group"] == group && names["kind"] == o.Kind() {
			scope, _ := spec["scope"].(string)
			return scope
		}
	}
	return ""
}
