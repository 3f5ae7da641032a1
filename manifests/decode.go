package manifests

import (
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decode sets rv from n and reports everything about n that does not fit rv's
// type. What does not fit stays zero.
func (d *document) decode(n ast.Node, rv reflect.Value, p path) {
	n, ok := d.plain(n, p)
	if !ok {
		return
	}
	switch v := rv.Addr().Interface().(type) {
	case *Platforms:
		d.platforms(n, v, p)
		return
	case *FromPreset:
		if d.preset(n, v, p) {
			return
		}
	}
	switch rv.Kind() {
	case reflect.Pointer:
		rv.Set(reflect.New(rv.Type().Elem()))
		d.decode(n, rv.Elem(), p)
	case reflect.Struct:
		d.structure(n, rv, p)
	case reflect.Slice:
		d.list(n, rv, p)
	case reflect.Map:
		d.dictionary(n, rv, p)
	case reflect.Interface:
		if v := d.anything(n, p); v != nil {
			rv.Set(reflect.ValueOf(v))
		}
	default:
		d.scalar(n, rv, p)
	}
}

// plain takes off what documents may not use (anchors, aliases, tags) and
// reports it. ok is false where no value is left.
func (d *document) plain(n ast.Node, p path) (ast.Node, bool) {
	for {
		switch v := n.(type) {
		case *ast.AnchorNode:
			d.add(n, p, "anchors are not allowed: write the value where it is used")
			n = v.Value
		case *ast.AliasNode:
			d.add(n, p, "aliases are not allowed: write the value out")
			return nil, false
		case *ast.TagNode:
			d.add(n, p, "tags are not allowed")
			n = v.Value
		case *ast.NullNode, nil:
			if n == nil {
				d.at(p, "has no value")
			} else {
				d.add(n, p, "has no value: give one, or take the line out")
			}
			return nil, false
		default:
			return n, true
		}
	}
}

func (d *document) platforms(n ast.Node, v *Platforms, p path) {
	if s, ok := text(n); ok {
		if s != "all" {
			d.add(n, p, "want all or a list of os/arch, as in [linux/amd64]")
			return
		}
		*v = Platforms{"all"}
		return
	}
	list := reflect.ValueOf((*[]string)(v)).Elem()
	d.list(n, list, p)
	rules := fieldRules{pattern: platformPattern, minItems: 1}
	d.checkList(n, list, p, rules)
}

// preset decodes the short form, "preset:NAME". It reports whether n was a
// scalar; the long form is an ordinary mapping.
func (d *document) preset(n ast.Node, v *FromPreset, p path) bool {
	s, ok := text(n)
	if !ok {
		return false
	}
	name, ok := strings.CutPrefix(s, "preset:")
	if !ok || !d.matches(namePattern, name) {
		d.add(n, p, "want preset:NAME or {path: FILE}")
		return true
	}
	v.Preset = name
	return true
}

func (d *document) structure(n ast.Node, rv reflect.Value, p path) {
	entries, ok := mapping(n)
	if !ok {
		d.add(n, p, "want a mapping, got %s", shape(n))
		return
	}
	st := d.structType(rv.Type())
	present := map[string]bool{}
	for _, e := range entries {
		key, ok := d.key(e, p)
		if !ok {
			continue
		}
		i := slices.IndexFunc(st.fields, func(f field) bool { return f.name == key })
		switch {
		case present[key]:
			d.add(e.Key, p.with(key), "duplicate key")
			continue
		case i < 0:
			present[key] = true
			d.unknown(e, key, st, p)
			continue
		}
		present[key] = true
		f := st.fields[i]
		before := len(d.findings)
		d.decode(e.Value, rv.FieldByIndex(f.index), p.with(key))
		if len(d.findings) == before {
			d.checkField(e.Value, rv.FieldByIndex(f.index), p.with(key), f)
		}
	}
	for _, f := range st.fields {
		if f.required && !present[f.name] {
			d.add(n, p.with(f.name), "missing")
		}
	}
	d.choice(n, st, present, p)
}

// choice checks groups of keys of which exactly one group is wanted.
func (d *document) choice(n ast.Node, st *structType, present map[string]bool, p path) {
	if len(st.groups) == 0 {
		return
	}
	var begun []group
	for _, g := range st.groups {
		if slices.ContainsFunc(g.members, func(m string) bool { return present[m] }) {
			begun = append(begun, g)
		}
	}
	switch len(begun) {
	case 0:
		d.add(n, p, "want one of %s", strings.Join(groupNames(st.groups), ", "))
	case 1:
		for _, m := range begun[0].members {
			if !present[m] {
				d.add(n, p.with(m), "missing, wanted with %s", strings.Join(without(begun[0].members, m), ", "))
			}
		}
	default:
		d.add(n, p, "want only one of %s", strings.Join(groupNames(begun), ", "))
	}
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(e string) bool { return e == s })
}

func groupNames(gs []group) []string {
	names := make([]string, len(gs))
	for i, g := range gs {
		names[i] = g.name
	}
	return names
}

func (d *document) unknown(e *ast.MappingValueNode, key string, st *structType, p path) {
	names := make([]string, len(st.fields))
	for i, f := range st.fields {
		names[i] = f.name
	}
	hint := ""
	if s := nearest(key, names); s != "" {
		hint = ", did you mean " + s + "?"
	}
	d.add(e.Key, p.with(key), "unknown key%s", hint)
}

// key returns the key of an entry, which must be a string.
func (d *document) key(e *ast.MappingValueNode, p path) (string, bool) {
	if e.Key.IsMergeKey() {
		d.add(e.Key, p, "merge keys are not allowed: write the keys out")
		return "", false
	}
	switch k := e.Key.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.add(e.Key, p, "anchors, aliases and tags are not allowed")
	default:
		d.add(e.Key, p, "key must be a string: write it in quotes")
	}
	return "", false
}

func (d *document) list(n ast.Node, rv reflect.Value, p path) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(n, p, "want a list, got %s", shape(n))
		return
	}
	rv.Set(reflect.MakeSlice(rv.Type(), len(seq.Values), len(seq.Values)))
	for i, v := range seq.Values {
		d.decode(v, rv.Index(i), p.with(i))
	}
}

func (d *document) dictionary(n ast.Node, rv reflect.Value, p path) {
	entries, ok := mapping(n)
	if !ok {
		d.add(n, p, "want a mapping, got %s", shape(n))
		return
	}
	rv.Set(reflect.MakeMapWithSize(rv.Type(), len(entries)))
	for _, e := range entries {
		key, ok := d.key(e, p)
		if !ok {
			continue
		}
		k := reflect.ValueOf(key)
		if rv.MapIndex(k).IsValid() {
			d.add(e.Key, p.with(key), "duplicate key")
			continue
		}
		v := reflect.New(rv.Type().Elem()).Elem()
		d.decode(e.Value, v, p.with(key))
		rv.SetMapIndex(k, v)
	}
}

// anything decodes a value whose type the document's type leaves open: bool,
// int64, float64, string, []any or map[string]any.
func (d *document) anything(n ast.Node, p path) any {
	switch n := n.(type) {
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		return d.number(n, p)
	case *ast.SequenceNode:
		var list []any
		rv := reflect.ValueOf(&list).Elem()
		d.list(n, rv, p)
		return list
	case *ast.MappingNode, *ast.MappingValueNode:
		var m map[string]any
		rv := reflect.ValueOf(&m).Elem()
		d.dictionary(n, rv, p)
		return m
	}
	if s, ok := text(n); ok {
		return s
	}
	d.add(n, p, "want a string, a number, true or false, a list or a mapping, got %s", shape(n))
	return nil
}

func (d *document) number(n ast.Node, p path) any {
	switch n := n.(type) {
	case *ast.FloatNode:
		if !math.IsInf(n.Value, 0) && !math.IsNaN(n.Value) {
			return n.Value
		}
	case *ast.IntegerNode:
		if i, ok := integer(n); ok {
			return i
		}
	}
	d.add(n, p, "number is out of range")
	return nil
}

// integer returns the value of n if it fits int64 and is written in decimal:
// 010 and 1_000 mean different things to different readers.
func integer(n *ast.IntegerNode) (int64, bool) {
	if n.Token.Type != token.IntegerType || strings.Contains(n.Token.Value, "_") {
		return 0, false
	}
	switch v := n.Value.(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64 //nolint:gosec // the bound is checked beside it
	}
	return 0, false
}

func (d *document) scalar(n ast.Node, rv reflect.Value, p path) {
	switch rv.Kind() {
	case reflect.String:
		s, ok := text(n)
		if !ok {
			hint := ""
			if _, scalar := n.(ast.ScalarNode); scalar {
				hint = ": write it in quotes"
			}
			d.add(n, p, "want a string, got %s%s", shape(n), hint)
			return
		}
		rv.SetString(s)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.add(n, p, "want true or false, got %s", shape(n))
			return
		}
		rv.SetBool(b.Value)
	case reflect.Int, reflect.Int64:
		in, ok := n.(*ast.IntegerNode)
		if !ok {
			d.add(n, p, "want a whole number, got %s", shape(n))
			return
		}
		i, ok := integer(in)
		if !ok || rv.OverflowInt(i) {
			d.add(n, p, "want a decimal number of at most 18 digits")
			return
		}
		rv.SetInt(i)
	default:
		panic("manifests: no decoder for " + rv.Type().String())
	}
}
