package expr

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testEnv(t *testing.T) *Env {
	t.Helper()
	e, err := NewEnv(
		map[string]string{
			"workers.location": "enum", "mqtt.type": "enum", "mqtt.port": "int", "platform": "enum", "tags": "list",
			"extra": "map", "tls.ca": "path", "k8s.namespace": "string", "on": "bool",
		},
		map[string]string{"image.digest": "string", "map": "map"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testVars() Vars {
	return NewVars(map[string]any{
		"workers.location": "external", "mqtt.type": "builtin", "mqtt.port": int64(1984), "platform": "onprem",
		"tags": []any{"a", "b"}, "extra": map[string]any{"x": map[string]any{"y": int64(7)}}, "k8s.namespace": "ns", "on": true,
	},
		map[string]any{"image.digest": "sha256:1"})
}

func TestCondition(t *testing.T) {
	for src, want := range map[string]bool{
		`in.workers.location == "external" && in.mqtt.type == "builtin" || in.platform == "ecs"`: true,
		`in.platform in ["eks", "ecs"]`:                 false,
		`"a" in in.tags`:                                true,
		`"c" in in . tags`:                              false,
		`has(in.tls.ca)`:                                false,
		`!has(in.tls.ca) && has(in.mqtt.port)`:          true,
		`has(in.tls.ca) && in.tls.ca == "x"`:            false,
		`has(in.extra.x)`:                               true,
		`has(in.extra.z)`:                               false,
		`in.extra.x.y == 7`:                             true,
		`in.mqtt.port > 1000 && in.mqtt.port != 1983`:   true,
		`in.tags.exists(t, t == "b")`:                   true,
		`out.image.digest.startsWith("sha256:")`:        true,
		`has(out.map)`:                                  false,
		`"in.x" == "in.x" && r'\in.' != ''`:             true,
		`[1,2].exists(i, i in [2]) // in.nothing here`:  true,
		`in.k8s.namespace.matches("^[a-z]+$") && in.on`: true,
	} {
		x, err := testEnv(t).Condition(src)
		if err != nil {
			t.Errorf("compile %s: %v", src, err)
			continue
		}
		got, err := x.Bool(testVars())
		if err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", src, got, err, want)
		}
	}
}

func TestConditionRefused(t *testing.T) {
	for src, want := range map[string]string{
		`in.workers.locaton == "x"`:           `input "workers.locaton" is not declared`,
		`has(in.workers.locaton)`:             `input "workers.locaton" is not declared`,
		`out.nothing == 1`:                    `output "nothing" is not declared`,
		`in.mqtt.port == "1984"`:              `no matching overload`,
		`in.platform`:                         `is string, not bool`,
		`in.platform ==`:                      `line 1 column`,
		`_i.platform == "x"`:                  `the name "_i" is reserved`,
		`in.platform == "x`:                   `a string is not closed`,
		`foo(in.platform)`:                    `undeclared reference to 'foo'`,
		strings.Repeat("(", 300) + "true":     `expression`,
		`in.a == 1 && in.b == 2`:              `input "b" is not declared`,
		`"` + strings.Repeat("x", 5000) + `"`: `expression`,
	} {
		_, err := testEnv(t).Condition(src)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("compile %.60s: %v; want %q", src, err, want)
		}
	}
}

func TestCostLimit(t *testing.T) {
	l := "[0,1,2,3,4,5,6,7,8,9]"
	src := l + ".all(a," + l + ".all(b," + l + ".all(c," + l + ".all(d," + l + ".all(e," + l + ".all(f, a+b+c+d+e+f >= 0))))))"
	x, err := testEnv(t).Condition(src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Bool(testVars()); err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("error %v; want the cost limit", err)
	}
}

func TestReads(t *testing.T) {
	x, err := testEnv(t).Condition(`has(in.tls.ca) && in.platform == "x" && in.extra.x.y == 1`)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"in.extra", "in.platform", "in.tls.ca"}, x.Refs()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"in.extra", "in.platform"}, x.Reads()); d != "" {
		t.Error(d)
	}
	v := NewVars(map[string]any{"platform": "x", "extra": map[string]any{"x": map[string]any{"y": int64(1)}}}, nil)
	v.Mark("in.tls.ca")
	if ok, err := x.Bool(v); !ok || err != nil {
		t.Errorf("a marked name: %v, %v", ok, err)
	}
}

func TestUnsetIsAnError(t *testing.T) {
	x, err := testEnv(t).Condition(`in.tls.ca == "x"`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Bool(testVars()); err == nil || !strings.Contains(err.Error(), "in.tls.ca") {
		t.Errorf("error %v; want one that names in.tls.ca", err)
	}
}

func TestValue(t *testing.T) {
	with := map[string]any{
		"plain":   "x",
		"number":  uint64(3),
		"kept":    "${in.mqtt.port}",
		"list":    []any{"${in.tags}", "${in.tls.ca}", "z"},
		"text":    "tls://${in.k8s.namespace}:${in.mqtt.port}",
		"escaped": "$${in.x}",
		"braces":  `${ {"a": "}"}["a"] }`,
		"nested":  map[string]any{"unset": "${in.tls.ca}", "out": "${out.image.digest}"},
		"choice":  `${has(in.tls.ca) ? in.tls.ca : "none"}`,
		"map":     "${in.extra}",
	}
	v, err := testEnv(t).Value("with", with)
	if err != nil {
		t.Fatal(err)
	}
	got, ok, err := v.Eval(testVars())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	want := map[string]any{
		"plain": "x", "number": int64(3), "kept": int64(1984), "list": []any{[]any{"a", "b"}, "z"}, "text": "tls://ns:1984",
		"escaped": "${in.x}", "braces": "}", "nested": map[string]any{"out": "sha256:1"}, "choice": "none",
		"map": map[string]any{"x": map[string]any{"y": int64(7)}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	refs := make(map[string]bool)
	for _, x := range v.Exprs() {
		for _, r := range x.Refs() {
			refs[r] = true
		}
	}
	for _, r := range []string{"in.mqtt.port", "in.tls.ca", "out.image.digest", "in.tags"} {
		if !refs[r] {
			t.Errorf("%s is not among the references %v", r, refs)
		}
	}
}

func TestValueRefusedCollectsAll(t *testing.T) {
	_, err := testEnv(t).Value("with", map[string]any{"a": "${in.nope}", "b": []any{"${in.tags}x", "${"}, "c": "${1 +}"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`with.a: `, `"nope" is not declared`, `with.b[0]: `, `cannot stand inside text`, `with.b[1]: `, `not closed`, `with.c: `} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`in.platform == "x"`, `"a" in in.tags`, `${in.a} ${`, `has(in.tls.ca)`, `'''in.x'''`, `r"\"`, `$${x}`, `{in.`} {
		f.Add(s)
	}
	e, err := NewEnv(map[string]string{"platform": "string", "tags": "list"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := rewrite(s); err == nil && len(r) != len(s) {
			t.Errorf("rewrite changed the length of %q", s)
		}
		v, err := e.Value("with", s)
		if err != nil {
			return
		}
		vars := NewVars(map[string]any{"platform": "p", "tags": []any{}}, nil)
		if _, _, err := v.Eval(vars); err != nil && err.Error() == "" {
			t.Error("an error without text")
		}
	})
}

func TestDecided(t *testing.T) {
	known := map[string]any{"in.platform": "onprem"}
	for src, want := range map[string]any{
		`in.platform == "onprem"`:                             true,
		`in.platform == "eks" && in.mqtt.type == "x"`:         false,
		`in.mqtt.type == "x" && in.platform == "eks"`:         false,
		`in.mqtt.port > 1 && in.platform == "onprem"`:         nil,
		`in.platform != "eks" || has(in.tls.ca)`:              true,
		`in.platform == "onprem" && has(in.tls.ca)`:           nil,
		`has(out.image.digest) && in.platform == "ecs"`:       false,
		`in.platform == "eks" ? in.on : in.mqtt.type == "x"`:  nil,
		`in.tags.exists(t, t == "x") && in.platform == "eks"`: false,
		`in.tags.exists(t, t == "x")`:                         nil,
	} {
		x, err := testEnv(t).Condition(src)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := x.Decided(known)
		if ok != (want != nil) || ok && got != want {
			t.Errorf("%s: %v, %v; want %v", src, got, ok, want)
		}
		if x.Never(known) != (want == false) {
			t.Errorf("%s: never %v", src, x.Never(known))
		}
	}
}

// TestOneNameIsNotCompiled: most expressions are a name. They take no CEL, are
// compiled once, and mean what CEL has them mean.
func TestOneNameIsNotCompiled(t *testing.T) {
	e := testEnv(t)
	first, err := e.Value("with", "${in.mqtt.port}")
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.Value("with", "${in.mqtt.port}")
	if err != nil || first.whole != again.whole || first.whole.ast != nil {
		t.Errorf("%+v, %+v, %v", first.whole, again.whole, err)
	}
	if got, ok, err := first.Eval(testVars()); got != int64(1984) || !ok || err != nil {
		t.Errorf("%v, %v, %v", got, ok, err)
	}
	if _, ok, err := first.Eval(NewVars(nil, nil)); ok || err != nil {
		t.Errorf("unset: %v, %v", ok, err)
	}
	x, err := e.Condition("in.on")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Bool(NewVars(nil, nil)); err == nil || !strings.Contains(err.Error(), "in.on") {
		t.Errorf("unset: %v", err)
	}
	// What a step gave may be of any Go type.
	out, err := e.Value("with", "${out.map}")
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := out.Eval(NewVars(nil, map[string]any{"map": map[string][]string{"a": {"b"}}}))
	if d := cmp.Diff(map[string]any{"a": []any{"b"}}, got); d != "" || err != nil {
		t.Error(d, err)
	}
}
