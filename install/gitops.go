package install

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Renderer is an Action whose work is objects in a cluster. Where something else
// applies objects (Argo CD, Flux), see [Options.GitOps], its Apply is never
// called: its objects go into a tree of files, and it is done when the cluster
// holds them.
type Renderer interface {
	Action
	// Objects are what Apply would put into the cluster, in order; none if it only
	// changes what others put there. It asks no cluster.
	Objects(ctx context.Context, in Input) ([]Manifest, error)
	// Held reads from the cluster and changes nothing. want are the objects as they
	// are in the tree, with their marks.
	Held(ctx context.Context, in Input, want []Manifest) (Holding, error)
}

// Manifest is an object as it goes into a tree.
type Manifest struct {
	Tree map[string]any
	// Patch says that Tree is only a part (a JSON merge patch, RFC 7396) of an
	// object that another item makes.
	Patch bool
	// Group orders the objects of a step: those of a higher group need those of a
	// lower one to be ready.
	Group int
}

// Holding is what a cluster holds of what is wanted.
type Holding struct {
	Result Result
	Waits  []string // what is not there as wanted, for people: "Deployment shop/web"
}

// MarkPrefix begins the annotations that mark objects of a tree; the ids of
// item and step follow. The value is a digest of what the item wants of the object: an
// object that has it was applied from the tree. That of a Secret is keyed with the
// state's own key: nobody can try passwords against it.
const MarkPrefix = "rendered.airlock-project.io/"

// Codes of runs in which something else changes the cluster.
const (
	codeHeld = "GO-01"
	// CodeUntried is the code of what a probe leaves out where [Input.GitOps] is
	// set. Its field is reason.
	CodeUntried = "GO-02"
	// GO-03 is codeOpen.
)

// Untried is the finding of a probe that would have to change something in the
// cluster, or have the server try it.
func Untried(s Severity, reason string) Finding {
	return Finding{Code: CodeUntried, Severity: s, Detail: reason, Fields: map[string]string{"reason": reason}}
}

// Marked returns the marks of an object.
func (m Manifest) Marked() map[string]string {
	out := make(map[string]string)
	for k, v := range mapAt(m.Tree, "metadata", "annotations") {
		if s, ok := v.(string); ok && strings.HasPrefix(k, MarkPrefix) {
			out[k] = s
		}
	}
	return out
}

// Secret reports whether the object is a Secret, which never goes beside the
// others.
func (m Manifest) Secret() bool { return m.Tree["kind"] == "Secret" && m.Tree["apiVersion"] == "v1" }

// Object names it.
func (m Manifest) Object() Object {
	text := func(v any) string { s, _ := v.(string); return s }
	meta := mapAt(m.Tree, "metadata")
	return Object{APIVersion: text(m.Tree["apiVersion"]), Kind: text(m.Tree["kind"]), Namespace: text(meta["namespace"]), Name: text(meta["name"])}
}

// mapAt is a map in a tree, nil if there is none.
func mapAt(tree map[string]any, path ...string) map[string]any {
	for _, p := range path {
		tree, _ = tree[p].(map[string]any)
	}
	return tree
}

// annotate sets an annotation.
func annotate(tree map[string]any, key, value string) {
	for _, p := range []string{"metadata", "annotations"} {
		next, ok := tree[p].(map[string]any)
		if !ok {
			next = make(map[string]any)
			tree[p] = next
		}
		tree = next
	}
	tree[key] = value
}

// renderer is the action of a step that only renders in this run.
func (e *Engine) renderer(s *step) (Renderer, bool) {
	r, ok := s.action.(Renderer)
	return r, ok && e.opts.GitOps
}

// markKey is the annotation of a step: a name of at most 63 bytes.
func markKey(n *node, s *step) string {
	name := n.item.ID + "." + s.name
	if len(name) > 63 {
		name = name[:46] + "-" + sumOf([]byte(name))[:16]
	}
	return MarkPrefix + name
}

// marked are the objects of a step with their marks, as copies of plain JSON.
func (r *run) marked(n *node, s *step, list []Manifest) ([]Manifest, error) {
	out := make([]Manifest, len(list))
	for i, m := range list {
		tree, err := plainTree(m.Tree)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", m.Object(), err)
		}
		if o := m.Object(); o.Kind == "" || o.APIVersion == "" || o.Name == "" {
			return nil, fmt.Errorf("render %s: it has no apiVersion, kind or name", o)
		}
		raw, err := canonical(tree)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", m.Object(), err)
		}
		out[i] = Manifest{tree, m.Patch, m.Group}
		if m.Patch {
			continue // only the content tells whether it is there
		}
		mark := "sha256:" + sumOf(raw)
		if m.Secret() {
			mark = "hmac-sha256:" + r.st.seal(raw)
		}
		annotate(tree, markKey(n, s), mark)
	}
	return out, nil
}

// plainTree copies a tree into what JSON has.
func plainTree(tree map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	return out, d.Decode(&out)
}

// lookHeld asks whether the cluster holds what a step renders. It is called without
// mu held.
func (r *run) lookHeld(ctx context.Context, n *node, s *step, act Renderer, in Input) (Holding, int, error) {
	list, err := act.Objects(ctx, in)
	if err != nil {
		return Holding{}, 0, err
	}
	want, err := r.marked(n, s, list)
	if err != nil {
		return Holding{}, 0, err
	}
	h, err := act.Held(ctx, in, want)
	return h, len(want), err
}

// held is a step in a run that leaves the cluster to others. What is not there is
// a finding; the item waits.
func (a *attempt) held(ctx context.Context, s *step, act Renderer, in Input) (Result, []string, error) {
	h, _, err := a.lookHeld(ctx, a.n, s, act, in)
	if err != nil || len(h.Waits) == 0 {
		return h.Result, nil, err
	}
	fields := map[string]string{"objects": several(h.Waits), "dir": in.Render, "secrets": ""}
	if slices.ContainsFunc(h.Waits, func(s string) bool { return strings.HasPrefix(s, "Secret ") }) {
		fields["secrets"] = "; Secrets are not for Git: kubectl apply --server-side -k " + in.Render + "/" + treeSecrets
	}
	h.Result.Findings = append(h.Result.Findings, Finding{
		Code: codeHeld, Severity: SeverityWarn, Fields: fields, Detail: "not in the cluster as rendered: " + fields["objects"],
	})
	return h.Result, h.Waits, nil
}

// waiting is the reason of an item whose objects others have to apply.
func waiting(waits []string, dir string) string {
	what := fmt.Sprintf("%d objects", len(waits))
	if len(waits) == 1 {
		what = waits[0]
	}
	return what + " not in the cluster yet: commit " + dir + ", let the GitOps controller apply it, run the same command again"
}

// planHeld is a plan of a step that only renders.
func (r *run) planHeld(ctx context.Context, n *node, s *step, act Renderer, in Input) (Change, error) {
	if r.opts.DryRun {
		return r.planTree(ctx, s, act, in)
	}
	h, count, err := r.lookHeld(ctx, n, s, act, in)
	return Change{
		Summary: fmt.Sprintf("wait until the cluster holds %d objects", count), Details: h.Waits, Nothing: err == nil && len(h.Waits) == 0,
	}, err
}

// planTree says what a step would write, as far as that can be known.
func (r *run) planTree(ctx context.Context, s *step, act Renderer, in Input) (Change, error) {
	in.Preview = true
	list, err := act.Objects(ctx, in)
	after := r.lacks(needed(s))
	if err != nil && after != "" {
		return Change{Summary: "write objects for the GitOps controller", Details: []string{"they are known after " + after}}, nil
	}
	c := Change{Summary: fmt.Sprintf("write %d objects for the GitOps controller", len(list))}
	for _, m := range list {
		c.Details = append(c.Details, m.Object().String())
		for _, open := range openFields(m) {
			c.Details = append(c.Details, "  "+codeOpen+": "+open.field+" has "+open.what)
		}
	}
	if after != "" {
		c.Details = append(c.Details, "what is in them is known after "+after)
	}
	return c, err
}

// lacks names the items whose outputs of refs are not known yet.
func (r *run) lacks(refs []string) string {
	var out []string
	for _, ref := range refs {
		name, isOut := strings.CutPrefix(ref, "out.")
		if !isOut || r.plan.producer[name] == nil || r.outputs[name] != nil {
			continue
		}
		if id := r.plan.producer[name].item.ID; !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// mergePatch lays over over base, which it changes (RFC 7396).
func mergePatch(base, over map[string]any) {
	for k, v := range over {
		sub, isMap := v.(map[string]any)
		have, was := base[k].(map[string]any)
		switch {
		case v == nil:
			delete(base, k)
		case isMap && was:
			mergePatch(have, sub)
		case isMap:
			next := make(map[string]any)
			mergePatch(next, sub)
			base[k] = next
		default:
			base[k] = v
		}
	}
}

// withoutMarks is a copy of a tree without marks, in bytes that compare.
func withoutMarks(tree map[string]any) string {
	c, err := plainTree(tree)
	if err != nil {
		return ""
	}
	if notes := mapAt(c, "metadata", "annotations"); notes != nil {
		maps.DeleteFunc(notes, func(k string, _ any) bool { return strings.HasPrefix(k, MarkPrefix) })
		if len(notes) == 0 {
			delete(mapAt(c, "metadata"), "annotations")
		}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return string(raw)
}
