package install

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install/internal/expr"
	"github.com/airlock-project/airlock/manifests"
)

// probeTimeout bounds a probe whose step gives no timeout: a network in which
// packets vanish must not stop a run. Actions have no limit of their own, a
// mirror may take hours.
const probeTimeout = 2 * time.Minute

// maxBackoff bounds the pause between two tries of a step.
const maxBackoff = time.Minute

// Needs of an item.
const (
	needRequired    = "required"
	needOptional    = "optional"
	needConditional = "conditional"
)

// plan is a compiled checklist.
type plan struct {
	checklist    *manifests.Checklist
	env          *expr.Env
	nodes        []*node // in the checklist's order
	order        []*node // dependencies first
	byID         map[string]*node
	producer     map[string]*node // of outputs
	patterns     map[string]*regexp.Regexp
	requiredWhen map[string]*expr.Expr
	expectedWhen map[string]*expr.Expr
	problems     []Problem
}

// node is a compiled item.
type node struct {
	item      *manifests.Item
	when      *expr.Expr
	steps     []*step
	probes    []*step
	statement *expr.Value
	messages  map[string]message
	freshness time.Duration
	parent    *node
	children  []*node
	needs     []*node // its own and those of the groups it is in
	unknown   []string
	refs      []string // names it depends on: "in.a", "out.b"
	reads     []string // those whose value it takes
}

// step is a compiled action step or probe.
type step struct {
	def     manifests.Step
	name    string
	with    *expr.Value
	when    *expr.Expr
	timeout time.Duration // of one try
	retries int           // tries after the first
	backoff time.Duration
	probe   Probe  // nil for an action step or an unknown kind
	action  Action // nil for a probe or an unknown kind
}

func (p *plan) complain(where, format string, args ...any) {
	p.problems = append(p.problems, Problem{Where: where, Text: fmt.Sprintf(format, args...)})
}

// complainAll reports each of the errors joined in err.
func (p *plan) complainAll(where string, err error) {
	if err == nil {
		return
	}
	if multi, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range multi.Unwrap() {
			p.complainAll(where, e)
		}
		return
	}
	p.complain(where, "%s", err)
}

// compile checks a checklist as a whole. Every problem found comes back in one
// *ChecklistError.
func compile(c *manifests.Checklist, probes map[string]Probe, actions map[string]Action) (*plan, error) {
	p := &plan{checklist: c, byID: make(map[string]*node), producer: make(map[string]*node)}
	p.declareItems()
	if err := p.declareNames(); err != nil {
		return nil, err
	}
	for _, n := range p.nodes {
		p.compileItem(n, probes, actions)
	}
	p.sort()
	if len(p.problems) == 0 { // needs a sound graph
		for _, n := range p.nodes {
			p.checkOutputs(n)
			p.checkMessages(n)
		}
	}
	if len(p.problems) > 0 {
		return nil, &ChecklistError{Product: c.Product, Problems: p.problems}
	}
	return p, nil
}

// declareItems builds the graph.
func (p *plan) declareItems() {
	phases := make(map[string]bool)
	for _, ph := range p.checklist.Phases {
		phases[ph.ID] = true
	}
	for i := range p.checklist.Items {
		item := &p.checklist.Items[i]
		where := "item " + item.ID
		if p.byID[item.ID] != nil {
			p.complain(where, "the id is used twice")
			continue
		}
		if !phases[item.Phase] {
			p.complain(where, "phase %q is not declared", item.Phase)
		}
		n := &node{item: item}
		p.byID[item.ID] = n
		p.nodes = append(p.nodes, n)
		for _, name := range slices.Sorted(maps.Keys(item.Outputs)) {
			if other := p.producer[name]; other != nil {
				p.complain(where, "output %q is also produced by item %s", name, other.item.ID)
			}
			p.producer[name] = n
		}
	}
	for _, n := range p.nodes {
		p.link(n)
	}
}

// link resolves children and needs.
func (p *plan) link(n *node) {
	where := "item " + n.item.ID
	for _, id := range n.item.Children {
		child := p.byID[id]
		switch {
		case child == nil:
			p.complain(where, "child %q is not declared", id)
		case child.parent != nil:
			p.complain(where, "child %q is also in group %s", id, child.parent.item.ID)
		default:
			child.parent = n
			n.children = append(n.children, child)
		}
	}
	for _, id := range n.item.Needs {
		if p.byID[id] == nil {
			p.complain(where, "it needs %q, which is not declared", id)
			continue
		}
		n.needs = append(n.needs, p.byID[id])
	}
}

// declareNames compiles the inputs and makes the expression environment.
func (p *plan) declareNames() error {
	inputs, outputs := builtinTypes(), make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(p.checklist.Inputs)) {
		def, where := p.checklist.Inputs[name], "inputs."+name
		if !isDotted(name) {
			p.complain(where, "the name is not made of identifiers and dots")
			continue
		}
		if _, taken := inputs[name]; taken {
			p.complain(where, "the name belongs to Airlock")
		}
		if !slices.Contains(types, def.Type) {
			p.complain(where, "type %q is not one of %s", def.Type, strings.Join(types, ", "))
		}
		inputs[name] = def.Type
	}
	for name, n := range p.producer {
		def, where := n.item.Outputs[name], "item "+n.item.ID+": outputs."+name
		if !isDotted(name) {
			p.complain(where, "the name is not made of identifiers and dots")
			continue
		}
		if !slices.Contains(types, def.Type) {
			p.complain(where, "type %q is not one of %s", def.Type, strings.Join(types, ", "))
		}
		outputs[name] = def.Type
	}
	var err error
	if p.env, err = expr.NewEnv(inputs, outputs); err != nil {
		return &ChecklistError{Product: p.checklist.Product, Problems: append(p.problems, Problem{Where: "inputs", Text: err.Error()})}
	}
	p.compileInputs()
	return nil
}

func (p *plan) compileInputs() {
	p.patterns = make(map[string]*regexp.Regexp)
	p.requiredWhen, p.expectedWhen = make(map[string]*expr.Expr), make(map[string]*expr.Expr)
	for _, name := range slices.Sorted(maps.Keys(p.checklist.Inputs)) {
		def, where := p.checklist.Inputs[name], "inputs."+name
		if def.Pattern != "" {
			re, err := regexp.Compile(def.Pattern)
			if err != nil {
				p.complain(where, "pattern: %s", err)
				continue
			}
			p.patterns[name] = re
		}
		p.compileWant(where+": requiredWhen", name, def.RequiredWhen, p.requiredWhen)
		p.compileWant(where+": expectedWhen", name, def.ExpectedWhen, p.expectedWhen)
	}
}

// compileWant compiles the condition under which an input is wanted.
func (p *plan) compileWant(where, name, condition string, into map[string]*expr.Expr) {
	if condition == "" {
		return
	}
	x, err := p.env.Condition(condition)
	if err != nil {
		p.complainAll(where, err)
		return
	}
	if slices.ContainsFunc(x.Refs(), func(r string) bool { return strings.HasPrefix(r, "out.") }) {
		p.complain(where, "reads an output; inputs are checked before anything runs")
	}
	p.noSecrets(where, x)
	into[name] = x
}

// noSecrets refuses a condition over a secret's value: what it decides would
// show in the report.
func (p *plan) noSecrets(where string, x *expr.Expr) {
	for _, r := range x.Reads() {
		root, name, _ := strings.Cut(r, ".")
		if root == "in" && (held(p.checklist.Inputs[name]) || p.checklist.Inputs[name].Type == typePEM) ||
			root == "out" && p.producer[name].item.Outputs[name].Secret {
			p.complain(where, "a condition cannot read the value of %s; has(%s) is allowed", r, r)
		}
	}
}

// isDotted reports whether name can be written in an expression.
func isDotted(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || '0' <= part[0] && part[0] <= '9' || slices.Contains([]string{"in", "true", "false", "null"}, part) ||
			strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			return false
		}
	}
	return true
}

// sort orders the nodes dependencies first, otherwise as the checklist does.
func (p *plan) sort() {
	const visiting, done = 1, 2
	state := make(map[*node]int)
	var path []string
	var visit func(n *node) bool
	visit = func(n *node) bool {
		switch state[n] {
		case done:
			return true
		case visiting:
			i := slices.Index(path, n.item.ID)
			p.complain("item "+n.item.ID, "items need each other: %s", strings.Join(append(slices.Clone(path[i:]), n.item.ID), " -> "))
			return false
		}
		state[n] = visiting
		path = append(path, n.item.ID)
		for _, d := range n.dependencies() {
			if !visit(d) {
				return false
			}
		}
		path = path[:len(path)-1]
		state[n] = done
		p.order = append(p.order, n)
		return true
	}
	for _, n := range p.nodes {
		if !visit(n) {
			return // one cycle is reported; others may follow from it
		}
	}
}

// dependencies are the nodes that come before n: what it needs, what the
// groups around it need, and a group's children.
func (n *node) dependencies() []*node {
	deps := slices.Clone(n.children)
	for at := n; at != nil; at = at.parent {
		deps = append(deps, at.needs...)
	}
	return deps
}

// basis are the items whose results n rests on directly: its dependencies, with
// the members of a group in place of the group.
func (n *node) basis() []*node {
	var out []*node
	for _, d := range n.dependencies() {
		if d.item.Kind == manifests.ItemGroup {
			out = append(out, d.members()...)
			continue
		}
		out = append(out, d)
	}
	return out
}

// members are the items in a group, groups in it opened.
func (n *node) members() []*node {
	var out []*node
	for _, c := range n.children {
		if c.item.Kind == manifests.ItemGroup {
			out = append(out, c.members()...)
			continue
		}
		out = append(out, c)
	}
	return out
}

// required reports whether a run is not done without n.
func (n *node) required() bool { return n.item.Need != needOptional }
