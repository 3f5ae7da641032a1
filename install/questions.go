package install

import (
	"context"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install/internal/expr"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
)

// Question is an input of a checklist as a site meets it.
type Question struct {
	Name     string
	Input    manifests.Input
	Default  any             // for the product's version; nil if there is none
	Phase    manifests.Phase // of the first item that asks
	Items    []string        // ids of the items that use it, in the checklist's order
	Required bool            // with nothing but defaults for the other inputs
	Expected bool            // the same of what rows find fault with
}

// Secret reports whether the answer is given by reference.
func (q Question) Secret() bool { return held(q.Input) }

// Questions lists what a checklist asks a site on its platform: the inputs of
// the items that can apply there, by phase. Items and steps whose condition is
// false whatever else the site answers ask nothing, and an input with platforms
// is asked on those only. A checklist that is wrong gives a
// *ChecklistError, a platform that it does not know a *MismatchError.
func Questions(c *manifests.Checklist, site *manifests.Site, version string) ([]Question, error) {
	if err := match(verify.Info{Info: bundle.Info{Product: c.Product}}, c, site); err != nil {
		return nil, err
	}
	p, err := compile(c, nil, nil)
	if err != nil {
		return nil, err
	}
	// Defaults stand for what the site has not answered yet.
	blank := &manifests.Site{Name: site.Name, Platform: site.Platform, Airgap: site.Airgap, Registry: site.Registry, Kubernetes: site.Kubernetes}
	a := p.defaults(blank, version)
	vars := a.vars(nil, nil)
	known := map[string]any{"in.platform": site.Platform, "in.airgap": site.Airgap}
	var out []Question
	index := make(map[string]int)
	ask := func(n *node, name string) {
		if i, ok := index[name]; ok {
			if !slices.Contains(out[i].Items, n.item.ID) {
				out[i].Items = append(out[i].Items, n.item.ID)
			}
			return
		}
		def := c.Inputs[name]
		q := Question{Name: name, Input: def, Default: def.DefaultFor(version), Items: []string{n.item.ID}}
		for _, ph := range c.Phases {
			if ph.ID == n.item.Phase {
				q.Phase = ph
			}
		}
		wanted := func(x *expr.Expr) bool {
			if x == nil || a.has(name) {
				return false
			}
			need, err := x.Bool(vars)
			return err == nil && need
		}
		q.Required, q.Expected = wanted(p.requiredWhen[name]), wanted(p.expectedWhen[name])
		index[name] = len(out)
		out = append(out, q)
	}
	for _, n := range p.inPhases() {
		if n.item.Kind == manifests.ItemGroup || n.never(known) {
			continue
		}
		for _, name := range p.asks(n, known) {
			ask(n, name)
		}
	}
	return out, nil
}

// inPhases are the nodes by phase, within a phase as the checklist has them.
func (p *plan) inPhases() []*node {
	number := make(map[string]int)
	for _, ph := range p.checklist.Phases {
		number[ph.ID] = ph.Number
	}
	return slices.SortedStableFunc(slices.Values(p.nodes), func(a, b *node) int { return number[a.item.Phase] - number[b.item.Phase] })
}

// asks are the declared inputs that n uses where known is all that is known of
// the site, and those that decide whether they are required. What only steps
// read that cannot run there is not used, nor is what an input says it is not
// for.
func (p *plan) asks(n *node, known map[string]any) []string {
	var out []string
	platform := known["in.platform"]
	var add func(refs []string)
	add = func(refs []string) {
		for _, r := range refs {
			name, isIn := strings.CutPrefix(r, "in.")
			def, declared := p.checklist.Inputs[name]
			if !isIn || !declared || slices.Contains(out, name) {
				continue
			}
			if len(def.Platforms) > 0 && !slices.ContainsFunc(def.Platforms, func(s string) bool { return s == platform }) {
				continue
			}
			if x := p.requiredWhen[name]; x != nil {
				add(slices.DeleteFunc(undecided(x, known), func(s string) bool { return s == r }))
			}
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	for at := n.parent; at != nil; at = at.parent {
		add(at.uses(known))
	}
	add(n.uses(known))
	return out
}

// uses are n's refs without those of steps that cannot run, of expressions whose
// value is known, and without the inputs that it lists for such steps only.
func (n *node) uses(known map[string]any) []string {
	var used, idle []string
	keep := func(x *expr.Expr) {
		refs := undecided(x, known)
		used = append(used, refs...)
		if len(refs) == 0 {
			idle = append(idle, x.Refs()...)
		}
	}
	values := []*expr.Value{n.statement}
	for _, s := range slices.Concat(n.steps, n.probes) {
		if s.when != nil && s.when.Never(known) {
			idle = append(idle, s.when.Refs()...)
			for _, x := range s.with.Exprs() {
				idle = append(idle, x.Refs()...)
			}
			continue
		}
		if s.when != nil {
			keep(s.when)
		}
		values = append(values, s.with)
	}
	if n.when != nil {
		keep(n.when)
	}
	for _, v := range values {
		for _, x := range v.Exprs() {
			keep(x)
		}
	}
	return slices.DeleteFunc(slices.Clone(n.refs), func(r string) bool { return slices.Contains(idle, r) && !slices.Contains(used, r) })
}

// undecided are the names that x depends on, none where what is known decides
// it.
func undecided(x *expr.Expr, known map[string]any) []string {
	if _, ok := x.Decided(known); ok {
		return nil
	}
	return slices.Clone(x.Refs())
}

// never reports whether n does not apply where known is what is known of the
// site, whatever else it answers.
func (n *node) never(known map[string]any) bool {
	for at := n; at != nil; at = at.parent {
		if p := at.item.Platforms; len(p) > 0 && !slices.ContainsFunc(p, func(s string) bool { return s == known["in.platform"] }) {
			return true
		}
		if at.when != nil && at.when.Never(known) {
			return true
		}
	}
	return false
}

// defaults are the answers of a site that answers nothing.
func (p *plan) defaults(site *manifests.Site, version string) *answers {
	info := verify.Info{Info: bundle.Info{Product: p.checklist.Product, Version: version}}
	a := &answers{plain: builtin(site, "", info), refs: make(map[string]string)}
	for name, def := range p.checklist.Inputs {
		if v := def.DefaultFor(version); v != nil {
			if val, err := expr.Normalize(v); err == nil {
				a.plain[name] = val
			}
		}
	}
	return a
}

// Checklist returns the one checklist that a verified bundle carries.
func Checklist(ctx context.Context, b *verify.Bundle) (*manifests.Checklist, error) {
	c, _, _, err := readChecklist(ctx, b)
	return c, err
}
