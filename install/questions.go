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
}

// Secret reports whether the answer is given by reference.
func (q Question) Secret() bool { return held(q.Input) }

// Questions lists what a checklist asks a site on its platform: the inputs of
// the items that can apply there, by phase. Items whose condition is false
// whatever else the site answers ask nothing. A checklist that is wrong gives a
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
		if x := p.requiredWhen[name]; x != nil && !a.has(name) {
			need, err := x.Bool(vars)
			q.Required = err == nil && need
		}
		index[name] = len(out)
		out = append(out, q)
	}
	for _, n := range p.inPhases() {
		if n.item.Kind == manifests.ItemGroup || n.never(site, vars) {
			continue
		}
		for _, name := range p.asks(n) {
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

// asks are the declared inputs that n uses, and those that decide whether they
// are required.
func (p *plan) asks(n *node) []string {
	var out []string
	var add func(refs []string)
	add = func(refs []string) {
		for _, r := range refs {
			name, isIn := strings.CutPrefix(r, "in.")
			if _, declared := p.checklist.Inputs[name]; !isIn || !declared || slices.Contains(out, name) {
				continue
			}
			if x := p.requiredWhen[name]; x != nil {
				add(slices.DeleteFunc(slices.Clone(x.Refs()), func(s string) bool { return s == r }))
			}
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	for at := n.parent; at != nil; at = at.parent {
		add(at.refs)
	}
	add(n.refs)
	return out
}

// never reports whether n does not apply at a site, whatever it answers: by
// platform, or by a condition over nothing but what the site is.
func (n *node) never(site *manifests.Site, vars expr.Vars) bool {
	for at := n; at != nil; at = at.parent {
		if p := at.item.Platforms; len(p) > 0 && !slices.Contains(p, site.Platform) {
			return true
		}
		if at.when == nil || slices.ContainsFunc(at.when.Refs(), func(r string) bool { return r != "in.platform" && r != "in.airgap" }) {
			continue
		}
		if ok, err := at.when.Bool(vars); err == nil && !ok {
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

// CheckSite checks a site's answers against a checklist without a bundle: names,
// types, patterns and what is required. Mistakes of the site give an
// *InputError, of the checklist a *ChecklistError, and a platform that it does
// not know a *MismatchError.
func CheckSite(c *manifests.Checklist, site *manifests.Site, dir, version string) error {
	info := verify.Info{Info: bundle.Info{Product: c.Product, Version: version}}
	if err := match(info, c, site); err != nil {
		return err
	}
	p, err := compile(c, nil, nil)
	if err != nil {
		return err
	}
	_, err = p.answer(site, dir, info)
	return err
}

// Checklist returns the one checklist that a verified bundle carries.
func Checklist(ctx context.Context, b *verify.Bundle) (*manifests.Checklist, error) {
	c, _, _, err := readChecklist(ctx, b)
	return c, err
}
