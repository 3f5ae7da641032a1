package install

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/manifests"
)

// Tree is what a run wrote for a GitOps controller.
type Tree struct {
	Dir     string     `json:"dir"`
	Items   int        `json:"items"`
	Objects int        `json:"objects"`
	Secrets int        `json:"secrets"` // beside the objects, in DIR/secrets, which is not for Git
	Applied bool       `json:"applied"` // the cluster holds everything, and nothing is to come
	Waits   []TreeWait `json:"waits,omitempty"`
	// Gone are objects that this run took out of the tree, for people: what does
	// not prune leaves them in the cluster.
	Gone []string `json:"gone,omitempty"`
	// Findings are about what is in the tree already: look before it is committed.
	Findings []TreeFinding `json:"findings,omitempty"`
}

// TreeWait says of an item what is not in the tree yet, and why.
type TreeWait struct {
	Item string `json:"item"`
	Why  string `json:"why"`
}

// AnnotationWave orders objects for Argo CD: those of a wave are applied when all
// of the waves before are healthy.
const annotationWave = "argocd.argoproj.io/sync-wave"

// waves is how many waves an item has.
const waves = 100

// growing is a tree being made.
type growing struct {
	*run
	report  Tree
	items   []*branch
	objects map[Object]*leaf
	before  map[string]bool                   // overlays that were part of the tree: "item object"
	turns   map[string]bool                   // those that are
	dirs    map[string]string                 // of items in the tree as it is: a newer checklist may count otherwise
	written func(name string) ([]byte, error) // a file of the tree as it is
}

// branch are the objects of an item.
type branch struct {
	dir    string
	was    string // the directory in the tree as it is, "" if there is none
	leaves []*leaf
	// keeps says that not all of them could be rendered: what an earlier run wrote
	// of the item stays. A controller that prunes would remove it from the cluster.
	keeps bool
}

type leaf struct {
	Manifest
	item string
	wave int
}

// growTree renders every item's objects and writes them, when nothing runs any
// more. A tree is only written where the checklist has something for it.
func (r *run) growTree(ctx context.Context) error {
	if !r.opts.GitOps {
		return nil
	}
	g := &growing{run: r, objects: make(map[Object]*leaf), before: make(map[string]bool), turns: make(map[string]bool)}
	t, err := openTree(r.opts.Render, true)
	if err != nil {
		return err
	}
	defer t.close() //nolint:errcheck // each file was closed by itself
	t.writes = r.opts.onTree
	if err := r.sameTree(t); err != nil {
		return err
	}
	g.written, g.dirs = t.read, t.dirs()
	for _, turn := range t.old.Turns {
		g.before[turn] = true
	}
	number, some, held := 0, false, true
	width := len(strconv.Itoa(len(r.plan.order)))
	for _, n := range r.plan.order {
		if n.item.Kind == manifests.ItemGroup {
			continue
		}
		number++
		if n.item.Kind != manifests.ItemAction || !slices.ContainsFunc(n.steps, func(s *step) bool { _, ok := r.renderer(s); return ok }) {
			continue
		}
		some = true
		if r.rec[n.item.ID].State == StateWaived {
			continue // people answer for it
		}
		held = held && r.rec[n.item.ID].State.met()
		g.item(ctx, n, fmt.Sprintf("%0*d-%s", width, number, n.item.ID), number*waves)
	}
	if err := ctx.Err(); err != nil || !some {
		return err
	}
	g.report.Dir = r.opts.Render
	g.lookOpen()
	for _, b := range g.items {
		if len(b.leaves) > 0 {
			g.report.Items++
		}
	}
	g.report.Applied = held && len(g.report.Waits) == 0
	if err := t.write(g); err != nil {
		return fmt.Errorf("write %s: %w", r.opts.Render, err)
	}
	r.tree = &g.report
	return nil
}

// item adds what can be known of an item.
func (g *growing) item(ctx context.Context, n *node, dir string, wave int) {
	wait := func(format string, args ...any) {
		w := TreeWait{n.item.ID, printable(g.redact.text(fmt.Sprintf(format, args...)))}
		if !slices.Contains(g.report.Waits, w) {
			g.report.Waits = append(g.report.Waits, w)
		}
	}
	b := &branch{dir: dir, was: g.dirs[n.item.ID]}
	defer func() {
		if len(b.leaves) > 0 || b.keeps {
			g.items = append(g.items, b)
		}
	}()
	if why, err := g.skip(n, g.outputs); err != nil {
		b.keeps = true
		wait("whether it applies is not known: %s", err)
		return
	} else if why != "" {
		return
	}
	secrets, err := g.secretsOf(n)
	if err != nil {
		b.keeps = true
		wait("%s", err)
		return
	}
	hidden := g.hidden(secrets)
	for _, s := range n.steps {
		act, ok := g.renderer(s)
		if !ok {
			continue
		}
		list, why := g.step(ctx, n, s, act, secrets)
		if why != "" {
			b.keeps = true
			wait("%s: %s", s.name, why)
			continue
		}
		slices.SortStableFunc(list, func(x, y Manifest) int { return rank(x) - rank(y) })
		group := -1
		for _, m := range list {
			if r := rank(m); r != group {
				group = r
				wave++
			}
			if why := g.add(n, b, m, wave, hidden); why != "" {
				wait("%s", why)
			}
		}
	}
}

// rank puts namespaces first, then types, then groups as the step has them.
func rank(m Manifest) int {
	switch m.Object().Kind {
	case "Namespace":
		return 0
	case "CustomResourceDefinition":
		return 1
	}
	return 2 + m.Group
}

// step renders one step, or says why that cannot be done yet.
func (g *growing) step(ctx context.Context, n *node, s *step, act Renderer, secrets map[string]any) ([]Manifest, string) {
	if s.when != nil {
		if p := g.producers(s.when.Refs()); p != "" {
			return nil, "whether it applies is known after " + p
		}
		applies, err := s.when.Bool(g.answers.vars(nil, g.outputs))
		if err != nil {
			return nil, err.Error()
		}
		if !applies {
			return nil, ""
		}
	}
	if p := g.producers(needed(s)); p != "" {
		return nil, "its objects are known after " + p
	}
	with, err := arguments(s, g.answers.vars(secrets, g.outputs).Preview(later))
	if err != nil {
		return nil, err.Error()
	}
	list, err := act.Objects(ctx, g.input(with))
	if err == nil {
		list, err = g.marked(n, s, list)
	}
	if err != nil {
		return nil, err.Error()
	}
	return list, ""
}

// later stands for what an item that was not run yet gives.
const later = "(known later)"

// needed are the names that the objects of a step depend on: not those that only
// say which cluster it is.
func needed(s *step) []string {
	rest := make(map[string]any)
	for k, v := range s.def.With {
		if k != "kubeconfig" && k != "context" {
			rest[k] = v
		}
	}
	raw, err := json.Marshal(rest)
	var out []string
	for _, x := range s.with.Exprs() {
		for _, ref := range x.Refs() {
			if err != nil || strings.Contains(string(raw), ref) {
				out = append(out, ref)
			}
		}
	}
	return out
}

// producers names the items that have to be done before all of refs are known.
func (g *growing) producers(refs []string) string {
	var out []string
	for _, ref := range refs {
		name, isOut := strings.CutPrefix(ref, "out.")
		if !isOut || g.plan.producer[name] == nil {
			continue
		}
		id := g.plan.producer[name].item.ID
		if !g.rec[id].State.met() && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// add puts an object into the tree, or over what an earlier item has put there.
// That waits for the item's turn where it changes something: who switches a login
// off in the end does not do so in the beginning.
func (g *growing) add(n *node, b *branch, m Manifest, wave int, hidden map[string]string) string {
	if !m.Secret() {
		if name, at := leaks(m.Tree, hidden); name != "" {
			return fmt.Sprintf("%s holds the secret %s%s, which must not get into Git", m.Object(), name, at)
		}
	}
	o := m.Object()
	base := g.objects[o]
	if base == nil {
		if m.Patch {
			return fmt.Sprintf("it changes %s, which no item here makes: make the change where that comes from (%s)", o, strings.Join(patched(m.Tree), ", "))
		}
		l := &leaf{m, n.item.ID, wave}
		g.objects[o] = l
		b.leaves = append(b.leaves, l)
		if m.Secret() {
			g.report.Secrets++
		} else {
			g.report.Objects++
		}
		return ""
	}
	next, err := plainTree(base.Tree)
	if err != nil {
		return err.Error()
	}
	mergePatch(next, m.Tree)
	turn := n.item.ID + " " + o.String()
	if withoutMarks(next) != withoutMarks(base.Tree) {
		state := g.rec[n.item.ID].State
		reached := state.settled() || state == StateWaiting && g.fresh[n.item.ID]
		if !reached && !g.before[turn] && base.item != n.item.ID {
			return fmt.Sprintf("it changes %s of %s when it is its turn", o, base.item)
		}
		g.turns[turn] = true
	}
	base.Tree = next
	return ""
}

// patched names what a patch changes of a Secret.
func patched(tree map[string]any) []string {
	var out []string
	for k := range mapAt(tree, "data") {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// minLeak is the length from which a secret is looked for everywhere in what goes
// into Git: a shorter one is a word like others, and counts as a whole value.
const minLeak = 8

// hidden are the secrets that may be in an item's objects, by name: those that it
// takes, and what other items made.
func (g *growing) hidden(secrets map[string]any) map[string]string {
	out := make(map[string]string)
	for name, v := range secrets {
		if s, ok := v.(string); ok && held(g.checklist.Inputs[name]) {
			out[name] = s
		}
	}
	for name, n := range g.plan.producer {
		def := n.item.Outputs[name]
		if s, ok := g.outputs[name].(string); ok && (def.Secret || def.Type == typeSecret) {
			out[name] = s
		}
	}
	return out
}

// leaks names a secret that is in an object, and where if that is one field; ""
// if none is.
func leaks(tree map[string]any, hidden map[string]string) (name, at string) {
	raw, err := json.Marshal(tree)
	if err != nil {
		return "", ""
	}
	for _, name := range slices.Sorted(maps.Keys(hidden)) {
		switch n := len(hidden[name]); {
		case n < minSecret: // refused where it is the site's
		case n < minLeak:
			if at := asScalar(tree, hidden[name]); at != "" {
				return name, " (" + at + ")"
			}
		default:
			var r redactor
			r.add(name, hidden[name])
			if r.text(string(raw)) != string(raw) {
				return name, ""
			}
		}
	}
	return "", ""
}
