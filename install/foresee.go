package install

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/manifests"
)

// Offline is a Probe that asks nobody: it looks at its arguments, at files that
// they name, and at the clock. [CheckSite] runs it before an installation
// begins. It gets no Bundle, and no directories to write to.
type Offline interface {
	Probe
	Offline()
}

// Foresight is something that an item will report when it is run.
type Foresight struct {
	Item  string `json:"item,omitempty"` // "" if it is about an input
	Title string `json:"title,omitempty"`
	FindingReport
}

// CheckSite checks a site's answers against a checklist without a bundle: names,
// types, patterns and what is required. Mistakes of the site give an
// *InputError, of the checklist a *ChecklistError, and a platform that it does
// not know a *MismatchError. Then it looks at the secrets that the site names,
// and runs what needs nothing but the answers ([Offline]): what would fail later
// comes back, each thing once. What two people may waive, or the run is done
// without, is a warning. Of o, Site, SiteDir, Probes, Actions and Secret count;
// version is the product's, "" if it is not known.
func CheckSite(ctx context.Context, c *manifests.Checklist, o Options, version string) ([]Foresight, error) {
	k := &kept{}
	k.start.Bundle.Product, k.start.Bundle.Version = c.Product, version
	o.DryRun, o.State, o.Render, o.Phases, o.Items = true, "", "", "", nil
	e, err := newEngine(k, c, o)
	if err != nil {
		return nil, err
	}
	out := e.foreseeSecrets()
	for _, f := range e.foreseeItems(ctx) {
		same := func(g Foresight) bool { return g.Code == f.Code && g.Cause == f.Cause && g.Detail == f.Detail }
		if !slices.ContainsFunc(out, same) {
			out = append(out, f)
		}
	}
	return out, ctx.Err()
}

// What the site names beside its inputs: a secret, and a file that holds one.
const (
	registryPassword = "registry.password"
	siteKubeconfig   = "kubernetes.kubeconfig"
)

// foreseeSecrets looks at what the site names by reference. A variable that is
// not set is only warned of: it may be where the installation runs.
func (e *Engine) foreseeSecrets() []Foresight {
	var out []Foresight
	add := func(s *SecretError, severity Severity) {
		m := ownMessages[s.Code]
		out = append(out, Foresight{FindingReport: FindingReport{
			Code: s.Code, Severity: severity, Cause: m.cause.render(s.fields()), Fix: m.fix.render(s.fields()),
		}})
	}
	refs := maps.Clone(e.answers.refs)
	if r := e.opts.Site.Registry; r != nil && r.Password != "" {
		refs[registryPassword] = r.Password
	}
	if k := e.opts.Site.Kubernetes; k != nil && k.Kubeconfig != "" {
		if _, err := e.opts.Secret(k.Kubeconfig); err != nil {
			add(&SecretError{Code: codeSecretUnread, Input: siteKubeconfig, Ref: k.Kubeconfig, Reason: cause(err)}, SeverityFail)
		} else if s := openToAll(e.opts.SiteDir, siteKubeconfig, k.Kubeconfig); s != nil {
			add(s, SeverityWarn)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		ref := refs[name]
		raw, err := e.opts.Secret(ref)
		if held(e.checklist.Inputs[name]) || name == registryPassword {
			e.redact.add(name, string(raw))
			if s := openToAll(e.opts.SiteDir, name, ref); s != nil {
				add(s, SeverityWarn)
			}
		}
		if s := e.plan.vetSecret(name, ref, raw, err); s != nil {
			severity := SeverityFail
			if s.Code == codeSecretUnread && strings.HasPrefix(ref, "env:") {
				severity = SeverityWarn
			}
			add(s, severity)
		}
	}
	return out
}

// prospect is what can be known before anything runs.
type prospect struct {
	*Engine
	outputs map[string]any // of probes that were run
	whole   map[*node]bool // has no further outputs than those: it was run to its end, or does not apply
	out     []Foresight
}

func (e *Engine) foreseeItems(ctx context.Context) []Foresight {
	p := &prospect{Engine: e, outputs: make(map[string]any), whole: make(map[*node]bool)}
	for _, n := range e.plan.order {
		if n.item.Kind == manifests.ItemGroup || !p.applies(n) {
			continue
		}
		secrets, _ := e.secretsOf(n) //nolint:errcheck // foreseeSecrets has told
		p.whole[n] = len(n.steps) == 0
		for _, s := range n.probes {
			p.whole[n] = p.look(ctx, n, s, secrets) && p.whole[n]
		}
	}
	return p.out
}

// applies reports whether it is certain that n applies here.
func (p *prospect) applies(n *node) bool {
	for at := n; at != nil; at = at.parent {
		if at.when != nil && !p.knows(at.when.Refs()) {
			return false
		}
	}
	why, err := p.skip(n, p.outputs)
	if err == nil && why != "" {
		p.whole[n] = true
	}
	return err == nil && why == ""
}

// knows reports whether everything that is read by refs is as it will be.
func (p *prospect) knows(refs []string) bool {
	return !slices.ContainsFunc(refs, func(r string) bool {
		name, isOut := strings.CutPrefix(r, "out.")
		return isOut && !p.whole[p.plan.producer[name]]
	})
}

// look runs a probe if that can be done now. It reports whether the probe has
// given the outputs that it will give.
func (p *prospect) look(ctx context.Context, n *node, s *step, secrets map[string]any) bool {
	if s.when != nil {
		if !p.knows(s.when.Refs()) {
			return false
		}
		ok, err := s.when.Bool(p.answers.vars(nil, p.outputs))
		if err != nil {
			return false
		}
		if !ok {
			return true
		}
	}
	if _, ok := s.probe.(Offline); !ok {
		return false
	}
	for _, x := range s.with.Exprs() {
		missing := func(r string) bool {
			name, _ := strings.CutPrefix(r, "in.")
			_, held := p.answers.refs[name]
			return held && secrets[name] == nil
		}
		if !p.knows(x.Refs()) || slices.ContainsFunc(x.Reads(), missing) {
			return false
		}
	}
	p.run(ctx, n, s, secrets)
	return true
}

// run runs a probe and keeps what it finds.
func (p *prospect) run(ctx context.Context, n *node, s *step, secrets map[string]any) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var res Result
	with, err := arguments(s, p.answers.vars(secrets, p.outputs))
	if err == nil {
		res, err = s.probe.Run(ctx, Input{With: with, Site: p.opts.SiteDir})
	}
	if err != nil {
		res.Findings = append(res.Findings, Finding{Detail: err.Error()})
	}
	for name, v := range res.Outputs {
		if p.plan.producer[name] == n {
			p.outputs[name] = v
		}
	}
	for _, f := range res.Findings {
		severity := milder(f.Severity, Severity(s.def.Severity))
		if severity == SeverityInfo {
			continue
		}
		if !n.required() || n.item.Waiver != nil {
			severity = milder(severity, SeverityWarn)
		}
		fields := make(map[string]string, len(f.Fields))
		for k, v := range f.Fields {
			fields[k] = p.redact.text(v)
		}
		rep := FindingReport{Step: s.name, Code: f.Code, Severity: severity, Detail: p.redact.text(f.Detail)}
		if m, ok := n.message(f.Code); ok {
			rep.Cause, rep.Fix, rep.Doc = m.cause.render(fields), m.fix.render(fields), m.doc
		}
		p.out = append(p.out, Foresight{Item: n.item.ID, Title: title(n.item), FindingReport: rep})
	}
}
