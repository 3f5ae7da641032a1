package expr

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
)

// Decided evaluates x where only some names are known: ok reports whether they
// decide it whatever the others are, val is the value then. A name that is not
// among known may be set or not. An expression that fails is not decided.
func (x *Expr) Decided(known map[string]any) (val any, ok bool) {
	if x.only != "" {
		val, ok = known[x.only]
		return val, ok
	}
	prog, err := x.env.Program(x.ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptPartialEval))
	if err != nil {
		return nil, false
	}
	act := make(map[string]any, len(known)+1)
	for name, v := range known {
		act[alias(name)] = v
	}
	unknown := []*cel.AttributePatternType{cel.AttributePattern(present)}
	for _, name := range x.read {
		if _, has := known[name]; !has {
			unknown = append(unknown, cel.AttributePattern(alias(name)))
		}
	}
	vars, err := cel.PartialVars(act, unknown...)
	if err != nil {
		return nil, false
	}
	out, _, err := prog.Eval(vars)
	if err != nil || types.IsUnknown(out) {
		return nil, false
	}
	val, err = native(out)
	return val, err == nil
}

// Never reports whether the condition x is false whatever the names that are
// not known are.
func (x *Expr) Never(known map[string]any) bool {
	val, ok := x.Decided(known)
	return ok && val == false
}
