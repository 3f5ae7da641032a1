package expr

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

func celString(s string) ref.Val { return types.String(s) }

// Vars are the values an evaluation sees.
type Vars struct {
	act     map[string]any
	set     map[string]bool
	unknown string // not empty: stands for what cannot be evaluated
}

// NewVars returns the variables for inputs and outputs that are set, by dotted
// name. Values are string, bool, int64, float64, nil, []any and map[string]any.
func NewVars(inputs, outputs map[string]any) Vars {
	v := Vars{act: make(map[string]any), set: make(map[string]bool)}
	for name, val := range inputs {
		v.act[alias("in."+name)] = val
		v.set["in."+name] = true
	}
	for name, val := range outputs {
		v.act["out."+name] = val
		v.set["out."+name] = true
	}
	v.act[present] = v.set
	return v
}

// Mark makes has() true for a name ("in.a.b") whose value is withheld.
func (v Vars) Mark(name string) { v.set[name] = true }

// Preview returns v such that a value that cannot be evaluated yet is the text
// unknown instead of an error.
func (v Vars) Preview(unknown string) Vars {
	v.unknown = unknown
	return v
}

// Bool evaluates a condition.
func (x *Expr) Bool(v Vars) (bool, error) {
	val, err := x.eval(v)
	if err != nil {
		return false, err
	}
	b, ok := val.(bool)
	if !ok {
		return false, fmt.Errorf("evaluate %q: the result is %T, not bool", x.src, val)
	}
	return b, nil
}

func (x *Expr) eval(v Vars) (any, error) {
	if x.only != "" {
		val, ok := v.act[alias(x.only)]
		if !ok {
			return nil, fmt.Errorf("evaluate %q: no such attribute(s): %s", x.src, x.only)
		}
		return Normalize(val)
	}
	prog, err := x.prog()
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", x.src, err)
	}
	val, _, err := prog.Eval(v.act)
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: %s", x.src, strings.ReplaceAll(err.Error(), inAlias+".", "in."))
	}
	return native(val)
}

// native turns a CEL value into plain Go: string, bool, int64, float64, nil,
// []any, map[string]any.
func native(val ref.Val) (any, error) {
	switch v := val.(type) {
	case types.String:
		return string(v), nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("number %d is too large", uint64(v))
		}
		return int64(v), nil
	case types.Double:
		return float64(v), nil
	case types.Null:
		return nil, nil
	case traits.Mapper:
		return nativeMap(v)
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			e, err := native(it.Next())
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	}
	return nil, fmt.Errorf("a value of type %s cannot be used here", val.Type())
}

func nativeMap(m traits.Mapper) (any, error) {
	out := make(map[string]any)
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		k, ok := key.(types.String)
		if !ok {
			return nil, fmt.Errorf("a map key of type %s cannot be used here", key.Type())
		}
		e, err := native(m.Get(key))
		if err != nil {
			return nil, err
		}
		out[string(k)] = e
	}
	return out, nil
}

// Value is a compiled value of a step's with: what it was, with every ${…}
// compiled.
type Value struct {
	literal any
	whole   *Expr   // the string is one ${…} and nothing else: the type is kept
	parts   []*part // the string mixes text and ${…}
	list    []*Value
	fields  map[string]*Value
}

type part struct {
	text string
	expr *Expr
}

// Value compiles v, a decoded YAML value. All findings are returned joined;
// each starts with the path below where.
func (e *Env) Value(where string, v any) (*Value, error) {
	switch t := v.(type) {
	case string:
		val, err := e.text(t)
		if err != nil {
			return nil, prefix(where, err)
		}
		return val, nil
	case []any:
		val := &Value{list: make([]*Value, len(t))}
		var errs []error
		for i, elem := range t {
			sub, err := e.Value(fmt.Sprintf("%s[%d]", where, i), elem)
			errs = append(errs, err)
			val.list[i] = sub
		}
		return val, errors.Join(errs...)
	case map[string]any:
		val := &Value{fields: make(map[string]*Value, len(t))}
		var errs []error
		for _, k := range slices.Sorted(maps.Keys(t)) {
			sub, err := e.Value(where+"."+k, t[k])
			errs = append(errs, err)
			val.fields[k] = sub
		}
		return val, errors.Join(errs...)
	default:
		n, err := Normalize(v)
		if err != nil {
			return nil, prefix(where, err)
		}
		return &Value{literal: n}, nil
	}
}

// prefix puts where before each of the errors joined in err.
func prefix(where string, err error) error {
	if multi, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range multi.Unwrap() {
			errs = append(errs, prefix(where, e))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("%s: %w", where, err)
}

func (e *Env) text(s string) (*Value, error) {
	parts, err := split(s)
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 {
		return &Value{literal: parts[0]}, nil
	}
	var errs []error
	val := &Value{}
	for i, p := range parts {
		if i%2 == 0 {
			val.parts = append(val.parts, &part{text: p})
			continue
		}
		x, err := e.compile(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		val.parts = append(val.parts, &part{expr: x})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(parts) == 3 && parts[0] == "" && parts[2] == "" {
		return &Value{whole: val.parts[1].expr}, nil
	}
	for _, p := range val.parts {
		if p.expr != nil && !printable(p.expr.typ) {
			errs = append(errs, fmt.Errorf("expression %q is %s and cannot stand inside text", p.expr.src, p.expr.typ))
		}
	}
	return val, errors.Join(errs...)
}

func printable(t *cel.Type) bool {
	return slices.ContainsFunc([]*cel.Type{cel.StringType, cel.IntType, cel.UintType, cel.BoolType, cel.DynType}, t.IsExactType)
}

// Exprs returns every expression inside v.
func (v *Value) Exprs() []*Expr {
	var out []*Expr
	if v == nil { // it did not compile
		return nil
	}
	if v.whole != nil {
		out = append(out, v.whole)
	}
	for _, p := range v.parts {
		if p.expr != nil {
			out = append(out, p.expr)
		}
	}
	for _, e := range v.list {
		out = append(out, e.Exprs()...)
	}
	for _, k := range slices.Sorted(maps.Keys(v.fields)) {
		out = append(out, v.fields[k].Exprs()...)
	}
	return out
}

// Eval returns the value with every ${…} replaced. A value that is nothing but
// a reference to a name that is not set has no value: ok is false, and a map
// or list leaves it out.
func (v *Value) Eval(vars Vars) (val any, ok bool, err error) {
	switch {
	case v.whole != nil:
		if v.whole.only != "" && !vars.set[v.whole.only] {
			return nil, false, nil
		}
		val, err = v.whole.eval(vars)
	case v.parts != nil:
		val, err = v.evalText(vars)
	case v.list != nil:
		return v.evalList(vars)
	case v.fields != nil:
		return v.evalMap(vars)
	default:
		return v.literal, true, nil
	}
	if err != nil && vars.unknown != "" {
		return vars.unknown, true, nil
	}
	return val, err == nil, err
}

func (v *Value) evalList(vars Vars) (any, bool, error) {
	out := []any{}
	for _, e := range v.list {
		val, ok, err := e.Eval(vars)
		if err != nil {
			return nil, false, err
		}
		if ok {
			out = append(out, val)
		}
	}
	return out, true, nil
}

func (v *Value) evalMap(vars Vars) (any, bool, error) {
	out := make(map[string]any, len(v.fields))
	for _, k := range slices.Sorted(maps.Keys(v.fields)) {
		val, ok, err := v.fields[k].Eval(vars)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", k, err)
		}
		if ok {
			out[k] = val
		}
	}
	return out, true, nil
}

func (v *Value) evalText(vars Vars) (string, error) {
	var b strings.Builder
	for _, p := range v.parts {
		if p.expr == nil {
			b.WriteString(p.text)
			continue
		}
		val, err := p.expr.eval(vars)
		if err != nil {
			return "", err
		}
		switch t := val.(type) {
		case string:
			b.WriteString(t)
		case bool:
			b.WriteString(strconv.FormatBool(t))
		case int64:
			b.WriteString(strconv.FormatInt(t, 10))
		default:
			return "", fmt.Errorf("evaluate %q: a value of type %T cannot stand inside text", p.expr.src, val)
		}
	}
	return b.String(), nil
}
