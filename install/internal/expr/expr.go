// Package expr compiles and evaluates the expressions of a checklist: CEL in
// conditions, and ${…} holding CEL inside the values of a step.
//
// An expression sees two names: in, the site's inputs, and out, the outputs of
// items. Both have dotted names, so in.workers.location is one variable with
// its own type. Everything is type-checked when a checklist is loaded; at run
// time an expression can only fail because a value is not set, or because it
// costs more than the limit.
package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/ext"
)

const (
	// MaxSource bounds one expression, in code points: a condition that is
	// longer cannot be reviewed.
	MaxSource = 4096
	// maxDepth bounds nesting in the parser, hence its stack.
	maxDepth = 64
	// maxCost bounds one evaluation in cel-go's cost units; the widest real
	// condition needs fewer than a hundred.
	maxCost = 100_000
)

// The word in is an operator in CEL, so the variable travels under a name of
// the same length, which keeps columns in messages right.
const (
	inAlias = "_i"
	present = "@present" // cannot be written in an expression
)

// Env knows the declared names and their types. It is safe for concurrent use.
type Env struct {
	env   *cel.Env
	names map[string]*cel.Type // "in.a.b", "out.c.d"

	// A checklist says the same many times, and most of it is a name. What was
	// compiled is kept by its source.
	mu   sync.Mutex
	seen map[string]*Expr
}

// NewEnv declares inputs and outputs: dotted names and their checklist types.
func NewEnv(inputs, outputs map[string]string) (*Env, error) {
	e := &Env{names: make(map[string]*cel.Type), seen: make(map[string]*Expr)}
	opts := []cel.EnvOption{
		cel.ClearMacros(),
		cel.Macros(cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.MapMacro, cel.MapFilterMacro, cel.FilterMacro,
			cel.GlobalMacro("has", 1, e.expandHas)),
		cel.ParserExpressionSizeLimit(MaxSource),
		cel.ParserRecursionLimit(maxDepth),
		cel.Variable(present, cel.MapType(cel.StringType, cel.BoolType)),
		ext.Strings(),
	}
	for root, decls := range map[string]map[string]string{"in": inputs, "out": outputs} {
		for name, typ := range decls {
			t := celType(typ)
			e.names[root+"."+name] = t
			opts = append(opts, cel.Variable(alias(root+"."+name), t))
		}
	}
	var err error
	if e.env, err = cel.NewEnv(opts...); err != nil {
		return nil, fmt.Errorf("declare expression variables: %w", err)
	}
	return e, nil
}

func celType(typ string) *cel.Type {
	switch typ {
	case "int":
		return cel.IntType
	case "bool":
		return cel.BoolType
	case "list":
		return cel.ListType(cel.DynType)
	case "map":
		return cel.MapType(cel.StringType, cel.DynType)
	default: // string, enum, hostname, url, pgurl, cidr, path, pem, secret
		return cel.StringType
	}
}

func alias(name string) string {
	if rest, ok := strings.CutPrefix(name, "in."); ok {
		return inAlias + "." + rest
	}
	return name
}

func unalias(name string) string {
	if rest, ok := strings.CutPrefix(name, inAlias+"."); ok {
		return "in." + rest
	}
	return name
}

// Expr is one compiled expression. It is safe for concurrent use.
type Expr struct {
	src  string
	env  *cel.Env
	ast  *cel.Ast                    // nil where only is all there is
	prog func() (cel.Program, error) // made when it is first needed
	typ  *cel.Type
	refs []string
	read []string
	only string // the name, where the expression is nothing but a reference
}

// Source returns the expression as written.
func (x *Expr) Source() string { return x.src }

// Refs lists the names the expression depends on, sorted: "in.a.b", "out.c.d".
func (x *Expr) Refs() []string { return x.refs }

// Reads lists the names whose value the expression takes: Refs without those
// that only stand in has().
func (x *Expr) Reads() []string { return x.read }

// Condition compiles src, which must be a bool.
func (e *Env) Condition(src string) (*Expr, error) {
	x, err := e.compile(src)
	if err != nil {
		return nil, err
	}
	if !x.typ.IsExactType(cel.BoolType) && !x.typ.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("condition %q is %s, not bool", src, x.typ)
	}
	return x, nil
}

func (e *Env) compile(src string) (*Expr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.seen[src]; x != nil {
		return x, nil
	}
	x, err := e.compileNew(src)
	if err == nil {
		e.seen[src] = x
	}
	return x, err
}

func (e *Env) compileNew(src string) (*Expr, error) {
	if name := strings.TrimSpace(src); e.names[name] != nil && len(src) <= MaxSource {
		return &Expr{src: src, typ: e.names[name], refs: []string{name}, read: []string{name}, only: name}, nil
	}
	rewritten, err := rewrite(src)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", src, err)
	}
	parsed, iss := e.env.Parse(rewritten)
	if err := issues(src, iss); err != nil {
		return nil, err
	}
	if err := e.undeclared(src, parsed.NativeRep().Expr()); err != nil {
		return nil, err
	}
	checked, iss := e.env.Check(parsed)
	if err := issues(src, iss); err != nil {
		return nil, err
	}
	x := &Expr{src: src, env: e.env, ast: checked, typ: checked.OutputType()}
	x.prog = sync.OnceValues(func() (cel.Program, error) { return e.env.Program(checked, cel.CostLimit(maxCost)) })
	x.refs, x.read = references(checked)
	return x, nil
}

// issues turns cel-go's findings into one error that lists them all.
func issues(src string, iss *cel.Issues) error {
	if iss.Err() == nil {
		return nil
	}
	var errs []error
	for _, f := range iss.Errors() {
		msg := strings.ReplaceAll(f.Message, inAlias+".", "in.")
		errs = append(errs, fmt.Errorf("expression %q, line %d column %d: %s", src, f.Location.Line(), f.Location.Column()+1, msg))
	}
	return errors.Join(errs...)
}

// undeclared reports names under in and out that nothing declares. cel-go
// would only say that it does not know the root.
func (e *Env) undeclared(src string, root ast.Expr) error {
	inner := make(map[int64]bool) // operands of a select: not the whole name
	var chains []ast.Expr
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() == ast.SelectKind {
			inner[x.AsSelect().Operand().ID()] = true
			chains = append(chains, x)
		}
	}))
	var errs []error
	for _, x := range chains {
		name, ok := qualified(x)
		if !ok || inner[x.ID()] || e.declaredPrefix(name) != "" {
			continue
		}
		what := "input"
		if strings.HasPrefix(name, "out.") {
			what = "output"
		}
		_, rest, _ := strings.Cut(name, ".")
		errs = append(errs, fmt.Errorf("expression %q: %s %q is not declared", src, what, rest))
	}
	return errors.Join(errs...)
}

// declaredPrefix returns the longest declared name that name starts with.
func (e *Env) declaredPrefix(name string) string {
	for name != "" {
		if _, ok := e.names[name]; ok {
			return name
		}
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	return ""
}

// qualified returns the dotted name of a select chain rooted at in or out.
func qualified(x ast.Expr) (string, bool) {
	var parts []string
	for x.Kind() == ast.SelectKind {
		s := x.AsSelect()
		parts = append(parts, s.FieldName())
		x = s.Operand()
	}
	if x.Kind() != ast.IdentKind || x.AsIdent() != inAlias && x.AsIdent() != "out" {
		return "", false
	}
	parts = append(parts, x.AsIdent())
	slices.Reverse(parts)
	return unalias(strings.Join(parts, ".")), true
}

// expandHas is has(): true for a declared name if it is set, and the usual test
// for a field of a map.
func (e *Env) expandHas(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	arg := args[0]
	if arg.Kind() != ast.SelectKind {
		return nil, eh.NewError(arg.ID(), "has() takes a name such as in.a.b")
	}
	name, ok := qualified(arg)
	if _, declared := e.names[name]; ok && declared {
		return eh.NewCall(operators.In, eh.NewLiteral(celString(name)), eh.NewIdent(present)), nil
	}
	s := arg.AsSelect()
	return eh.NewPresenceTest(s.Operand(), s.FieldName()), nil
}

// references lists the names a checked expression depends on, and those of
// them whose value it takes.
func references(checked *cel.Ast) (refs, read []string) {
	native := checked.NativeRep()
	for _, ref := range native.ReferenceMap() {
		if name := unalias(ref.Name); strings.HasPrefix(name, "in.") || strings.HasPrefix(name, "out.") {
			read = append(read, name)
		}
	}
	refs = slices.Clone(read)
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind || x.AsCall().FunctionName() != operators.In {
			return
		}
		args := x.AsCall().Args()
		if args[1].Kind() != ast.IdentKind || args[1].AsIdent() != present {
			return
		}
		if name, ok := args[0].AsLiteral().Value().(string); ok {
			refs = append(refs, name)
		}
	}))
	return sorted(refs), sorted(read)
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
