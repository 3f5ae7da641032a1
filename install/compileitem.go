package install

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install/internal/expr"
	"github.com/airlock-project/airlock/manifests"
)

// compileItem compiles the expressions, steps and messages of one item.
func (p *plan) compileItem(n *node, probes map[string]Probe, actions map[string]Action) {
	item, where := n.item, "item "+n.item.ID
	p.checkShape(n)
	if item.When != "" {
		x, err := p.env.Condition(item.When)
		p.complainAll(where+": when", err)
		if n.when = x; x != nil {
			p.noSecrets(where+": when", x)
		}
	}
	if item.Freshness != "" {
		d, err := time.ParseDuration(item.Freshness)
		if err != nil || d <= 0 {
			p.complain(where, "freshness %q is not a duration such as 24h", item.Freshness)
		}
		n.freshness = d
	}
	for i, s := range item.Steps {
		n.steps = append(n.steps, p.compileStep(n, "steps", i, s, nil, actions))
	}
	for i, s := range item.Probes {
		n.probes = append(n.probes, p.compileStep(n, "probes", i, s, probes, nil))
	}
	if item.Attest != nil {
		v, err := p.env.Value("attestation.statement", item.Attest.Statement)
		p.complainAll(where, err)
		n.statement = v
	}
	n.messages = make(map[string]message)
	for _, code := range slices.Sorted(maps.Keys(item.Messages)) {
		m, err := compileMessage(item.Messages[code])
		p.complainAll(where+": messages."+code, err)
		n.messages[code] = m
	}
	p.collect(n)
}

// checkShape checks what the kind of an item allows.
func (p *plan) checkShape(n *node) {
	item, where := n.item, "item "+n.item.ID
	switch item.Need {
	case "", needRequired, needOptional:
	case needConditional:
		if item.When == "" {
			p.complain(where, "need is conditional, but there is no when")
		}
	default:
		p.complain(where, "need %q is not one of required, optional, conditional", item.Need)
	}
	switch item.Kind {
	case manifests.ItemCheck, manifests.ItemAction:
	case manifests.ItemAttest:
		if item.Attest == nil || item.Attest.Statement == "" || item.Attest.Reason == "" {
			p.complain(where, "an attest item needs an attestation with statement and reason")
		}
	case manifests.ItemGroup:
		if len(item.Probes) > 0 {
			p.complain(where, "a group has children only")
		}
	default:
		p.complain(where, "kind %q is not one of check, action, attest, group", item.Kind)
	}
	if item.Kind != manifests.ItemAction && len(item.Steps) > 0 {
		p.complain(where, "only an action has steps; a %s looks with probes", item.Kind)
	}
	if item.Kind == manifests.ItemAction && len(item.Steps) == 0 {
		p.complain(where, "an action needs steps")
	}
	if item.Kind == manifests.ItemCheck && len(item.Probes) == 0 {
		p.complain(where, "a check needs probes")
	}
	if item.Kind != manifests.ItemGroup && len(item.Children) > 0 {
		p.complain(where, "only a group has children")
	}
}

// compileStep compiles one step or probe.
func (p *plan) compileStep(n *node, list string, i int, def manifests.Step, probes map[string]Probe, actions map[string]Action) *step {
	where := fmt.Sprintf("item %s: %s[%d] %s", n.item.ID, list, i, def.ID)
	s := &step{def: def, name: def.ID, probe: probes[def.Run], action: actions[def.Run]}
	if s.name == "" {
		s.name = def.Run
	}
	if s.probe == nil && s.action == nil && !slices.Contains(n.unknown, def.Run) {
		n.unknown = append(n.unknown, def.Run)
	}
	if def.When != "" {
		x, err := p.env.Condition(def.When)
		p.complainAll(where+": when", err)
		if s.when = x; x != nil {
			p.noSecrets(where+": when", x)
		}
	}
	with := def.With
	if with == nil {
		with = map[string]any{}
	}
	v, err := p.env.Value("with", with)
	p.complainAll(where, err)
	s.with = v
	if list == "probes" {
		s.timeout = probeTimeout
	}
	if def.Timeout != "" {
		d, err := time.ParseDuration(def.Timeout)
		if err != nil || d <= 0 {
			p.complain(where, "timeout %q is not a duration such as 30s", def.Timeout)
		}
		s.timeout = d
	}
	if def.Retry != nil {
		d, err := time.ParseDuration(def.Retry.Backoff)
		if err != nil || d <= 0 {
			p.complain(where, "retry.backoff %q is not a duration such as 2s", def.Retry.Backoff)
		}
		s.retries, s.backoff = def.Retry.Times, d
	}
	switch Severity(def.Severity) {
	case "", SeverityFail, SeverityWarn, SeverityInfo:
	default:
		p.complain(where, "severity %q is not one of fail, warn, info", def.Severity)
	}
	for _, code := range def.Codes {
		if _, ok := n.item.Messages[code]; !ok {
			p.complain(where, "code %s has no message", code)
		}
	}
	return s
}

// collect gathers the names an item depends on.
func (p *plan) collect(n *node) {
	var xs []*expr.Expr
	var values []*expr.Value
	if n.when != nil {
		xs = append(xs, n.when)
	}
	for _, s := range slices.Concat(n.steps, n.probes) {
		if s.when != nil {
			xs = append(xs, s.when)
		}
		values = append(values, s.with)
	}
	for _, v := range append(values, n.statement) {
		if v != nil {
			xs = append(xs, v.Exprs()...)
		}
	}
	for _, x := range xs {
		n.refs = append(n.refs, x.Refs()...)
		n.reads = append(n.reads, x.Reads()...)
	}
	for _, name := range n.item.Inputs {
		if _, ok := p.checklist.Inputs[name]; !ok && builtinTypes()[name] == "" {
			p.complain("item "+n.item.ID, "input %q is not declared", name)
			continue
		}
		n.refs = append(n.refs, "in."+name)
	}
	n.refs, n.reads = unique(n.refs), unique(n.reads)
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// checkOutputs makes sure that an output exists before anything reads it.
func (p *plan) checkOutputs(n *node) {
	before := make(map[*node]bool)
	var walk func(*node)
	walk = func(at *node) {
		for _, d := range at.dependencies() {
			if !before[d] {
				before[d] = true
				walk(d)
			}
		}
	}
	walk(n)
	where := "item " + n.item.ID
	for _, r := range n.refs {
		name, isOut := strings.CutPrefix(r, "out.")
		if !isOut {
			continue
		}
		if from := p.producer[name]; from != n && !before[from] {
			p.complain(where, "it reads output %q of item %s, which it does not need", name, from.item.ID)
		}
	}
	if n.when == nil {
		return
	}
	for _, r := range n.when.Refs() {
		if name, isOut := strings.CutPrefix(r, "out."); isOut && p.producer[name] == n {
			p.complain(where+": when", "it reads output %q, which the item itself produces", name)
		}
	}
}

// checkMessages makes sure that every field a message uses is one that the
// item's steps report with that code.
func (p *plan) checkMessages(n *node) {
	for _, code := range slices.Sorted(maps.Keys(n.messages)) {
		fields, known := fieldsOf(n, code)
		if !known {
			continue
		}
		m := n.messages[code]
		for _, f := range slices.Concat(m.cause.missing(fields), m.fix.missing(fields)) {
			p.complain("item "+n.item.ID+": messages."+code, "no step reports the field %q with it; it has %s", f, strings.Join(fields, ", "))
		}
	}
}

// fieldsOf lists the fields that may come with a code; known is false where a
// step of the item does not tell.
func fieldsOf(n *node, code string) (fields []string, known bool) {
	for _, s := range slices.Concat(n.steps, n.probes) {
		coder, ok := s.coder()
		if !ok {
			return nil, false
		}
		codes := coder.Codes()
		if own, ok := codes[code]; ok {
			fields = append(fields, own...)
			continue
		}
		if slices.Contains(s.def.Codes, code) { // a step may let the checklist choose its codes
			for _, c := range slices.Sorted(maps.Keys(codes)) {
				fields = append(fields, codes[c]...)
			}
		}
	}
	return unique(fields), true
}

func (s *step) coder() (Coder, bool) {
	if c, ok := s.probe.(Coder); ok {
		return c, true
	}
	c, ok := s.action.(Coder)
	return c, ok
}
