package install

import (
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/manifests"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestInputsAreCheckedTogether(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.opts.Site.Inputs = map[string]any{
		"kettle.size": "large", "hops.kind": "citra", "hops.suplier": "x", "cellar.password": "in the clear", "kettle.name": "https://kettle",
	}
	_, err := s.try(t.Context())
	bad, ok := errors.AsType[*InputError](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	want := []Problem{
		{"inputs.hops.suplier", "the checklist has no such input; did you mean hops.supplier?"},
		{"inputs.cellar.password", "a secret is given by reference: env:NAME or file:PATH"},
		{"inputs.kettle.name", `"https://kettle" has a scheme; drop https://`},
		{"inputs.kettle.size", "want a whole number, got text"},
		{"inputs.hops.supplier", `required when in.hops.kind == "citra"`},
	}
	if d := cmp.Diff(want, bad.Problems); d != "" {
		t.Error(d)
	}
	if strings.Contains(err.Error(), "in the clear") {
		t.Error("the error shows a secret")
	}
	if len(s.calls) != 0 {
		t.Errorf("it ran %v", s.calls)
	}
}

func TestCheckValue(t *testing.T) {
	t.Parallel()
	const pemText = "-----BEGIN X-----\nAAAA\n-----END X-----\n"
	for _, c := range []struct {
		typ  string
		good []any
		bad  []any
	}{
		{"string", []any{"", "x"}, []any{int64(1), true, nil, []any{}}},
		{"int", []any{int64(0), int64(-1)}, []any{"1", 1.5, true}},
		{"bool", []any{true, false}, []any{"true", int64(1)}},
		{"enum", []any{"a"}, []any{"b", "", int64(1)}},
		{"hostname", []any{"a", "a.b-c.example", "1a.example"}, []any{"", "A.example", "a..b", "-a", "a-", "a.", "1.2.3.4", "::1", "a:80", "a/b", "http://a", "a_b", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"}},
		{"url", []any{"https://a/b", "http://a:8080"}, []any{"a", "/a", "https://", "https:a"}},
		{"pgurl", []any{"postgres://u:p@h:5432/d", "postgresql://h/d"}, []any{"mysql://h/d", "postgres:///d", "postgres://u:p#@h/d"}},
		{"cidr", []any{"10.0.0.0/16", "fd00::/8"}, []any{"10.0.0.1/16", "10.0.0.0", "x"}},
		{"path", []any{"/a"}, []any{"", "a\x00b"}},
		{"pem", []any{pemText}, []any{"x", ""}},
		{"list", []any{[]any{}}, []any{"x", map[string]any{}}},
		{"map", []any{map[string]any{}}, []any{"x", []any{}}},
	} {
		def := manifests.Input{Type: c.typ, Enum: []string{"a"}}
		for _, v := range c.good {
			if err := checkValue(def, v, nil); err != nil {
				t.Errorf("%s %#v: %v", c.typ, v, err)
			}
		}
		for _, v := range c.bad {
			if err := checkValue(def, v, nil); err == nil {
				t.Errorf("%s %#v is accepted", c.typ, v)
			}
		}
	}
}

func TestChecklistIsCheckedAsAWhole(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	byID := make(map[string]*manifests.Item)
	for i := range s.list.Items {
		byID[s.list.Items[i].ID] = &s.list.Items[i]
	}
	byID["clean-kettle"].Probes[0].With["x"] = "${in.ketle.name} ${1 +}"
	byID["clean-kettle"].Messages["KET-01"] = manifests.Message{Cause: "{{.name | printf}}", Fix: "{{if .name}}x{{end}}"}
	byID["weigh-hops"].When = "in.kettle.size"
	byID["boil"].Steps[0].When = `in.cellar.password == "x"`
	byID["cool"].When = "has(in.cellar.password) && out.mash.nope == 1"
	in := s.list.Inputs["hops.supplier"]
	in.RequiredWhen = "out.mash.gravity == 1"
	s.list.Inputs["hops.supplier"] = in
	_, err := s.try(t.Context())
	bad, ok := errors.AsType[*ChecklistError](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{
		`item clean-kettle: probes[0] look: with.x: expression "in.ketle.name": input "ketle.name" is not declared`,
		`item clean-kettle: probes[0] look: with.x: expression "1 +", line 1 column`,
		`item clean-kettle: messages.KET-01: cause: template`,
		`item weigh-hops: when: condition "in.kettle.size" is int, not bool`,
		`item boil: steps[0] heat: when: a condition cannot read the value of in.cellar.password`,
		`item cool: when: expression "has(in.cellar.password) && out.mash.nope == 1": output "mash.nope" is not declared`,
		`inputs.hops.supplier: requiredWhen: reads an output`,
	} {
		if !strings.Contains(bad.Error(), want) {
			t.Errorf("missing %q in\n%v", want, bad)
		}
	}
	if len(s.calls) != 0 {
		t.Errorf("it ran %v", s.calls)
	}
}

func TestChecklistGraph(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(items map[string]*manifests.Item)
		want string
	}{
		"cycle":           {func(m map[string]*manifests.Item) { m["clean-kettle"].Needs = []string{"boil"} }, "items need each other: clean-kettle -> boil -> mash -> clean-kettle"},
		"unneeded output": {func(m map[string]*manifests.Item) { m["boil"].Needs = nil }, `it reads output "mash.gravity" of item mash, which it does not need`},
		"own output":      {func(m map[string]*manifests.Item) { m["mash"].When = "has(out.mash.gravity)" }, "which the item itself produces"},
		"unknown field": {func(m map[string]*manifests.Item) {
			m["clean-kettle"].Messages["KET-01"] = manifests.Message{Cause: "{{.colour}}", Fix: "x"}
		}, `no step reports the field "colour" with it; it has name, tool`},
		"needs nothing": {func(m map[string]*manifests.Item) { m["boil"].Needs = []string{"mash", "nope"} }, `it needs "nope", which is not declared`},
	} {
		s := newShop(t)
		byID := make(map[string]*manifests.Item)
		for i := range s.list.Items {
			byID[s.list.Items[i].ID] = &s.list.Items[i]
		}
		c.edit(byID)
		_, err := s.try(t.Context())
		if _, ok := errors.AsType[*ChecklistError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestReadChecklist(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/brewery.yaml")
	if err != nil {
		t.Fatal(err)
	}
	layer := digest.FromBytes(data)
	manifest := []byte(`{"schemaVersion":2,"layers":[{"mediaType":"` + bundle.MediaTypeChecklist + `","digest":"` + layer.String() + `","size":1}]}`)
	two := []byte(`{"schemaVersion":2,"layers":[{"digest":"` + layer.String() + `"},{"digest":"` + layer.String() + `"}]}`)
	entry := func(raw []byte) bundle.Entry {
		return bundle.Entry{Descriptor: bundle.Descriptor{Digest: digest.FromBytes(raw)}, Item: bundle.Item{Kind: bundle.KindChecklist, Name: "checklist"}, Role: bundle.RoleRoot}
	}
	b := newShop(t).bun
	b.blobs = map[digest.Digest][]byte{layer: data, digest.FromBytes(manifest): manifest, digest.FromBytes(two): two}
	for name, c := range map[string]struct {
		entries []bundle.Entry
		want    string
	}{
		"one":        {[]bundle.Entry{entry(manifest)}, ""},
		"none":       {nil, "carries no checklist"},
		"two":        {[]bundle.Entry{entry(manifest), entry(manifest)}, "carries 2 checklists"},
		"two layers": {[]bundle.Entry{entry(two)}, "2 layers, want one"},
		"absent":     {[]bundle.Entry{entry([]byte("x"))}, "is not carried"},
	} {
		b.entries = c.entries
		list, _, source, err := readChecklist(t.Context(), b)
		switch {
		case c.want == "" && (err != nil || list.Product != "brewery" || source != layer.String()):
			t.Errorf("%s: %v, %s, %v", name, list, source, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// TestSecretsStayOut lets a step show a secret in every way it can, and looks
// for it in everything that is written or reported.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	const password = `p@ss "word"/with<odd>&signs`
	secret := "postgres://brewer:" + url.QueryEscape(password) + "@db.example.internal/cellar"
	s := newShop(t)
	s.opts.Secret = func(string) ([]byte, error) { return []byte(secret), nil }
	s.doc = nil // this checklist writes down what its step makes
	in := s.list.Inputs["cellar.password"]
	in.Type = typePgURL
	s.list.Inputs["cellar.password"] = in
	u, err := url.Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{secret, password, url.QueryEscape(password), u.String(), base64.StdEncoding.EncodeToString([]byte(password)), base64.StdEncoding.EncodeToString([]byte(secret))}
	s.fail["boil"] = Finding{Code: "X-01", Fields: map[string]string{"url": secret}, Detail: strings.Join(shown, " and ")}
	s.err["boil"] = errors.New("dial " + secret + ": " + password)
	var events []Event
	s.opts.Listener = func(e Event) { events = append(events, e) }
	rep := s.run()
	js, err := rep.JSON()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"text": rep.Text(), "markdown": rep.Markdown(), "json": string(js)}
	for _, e := range events {
		texts["events"] += e.Text
	}
	for path := range dirSum(t, s.opts.State) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(path)] = string(raw)
	}
	for where, text := range texts {
		for _, leak := range append(shown, "mash-key-of-the-brewery", jsonText(password), "signs") {
			if strings.Contains(text, leak) {
				t.Errorf("%s holds %q", where, leak)
			}
		}
	}
	if !strings.Contains(texts["text"], "[secret cellar.password]") {
		t.Error("nothing says that a secret was left out")
	}
}

func TestWrongSecretIsNotShown(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	in := s.list.Inputs["cellar.password"]
	in.Type = typePgURL
	s.list.Inputs["cellar.password"] = in
	rep := s.run()
	f := item(t, rep, "boil").Findings[0]
	if f.Code != "IN-03" || f.Detail != "input cellar.password: env:CELLAR_PASSWORD: it is not a pgurl as the checklist wants it" || f.Fix == "" {
		t.Errorf("%+v", f)
	}
}

func TestSecretsFrom(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "key", "value\n")
	t.Setenv("AIRLOCK_TEST_SECRET", "from env")
	resolve := SecretsFrom(dir)
	for ref, want := range map[string]string{"file:key": "value", "file:" + filepath.Join(dir, "key"): "value", "env:AIRLOCK_TEST_SECRET": "from env"} {
		if got, err := resolve(ref); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"file:nothing", "env:AIRLOCK_TEST_UNSET", "plain", ""} {
		if _, err := resolve(ref); err == nil {
			t.Errorf("%q is accepted", ref)
		}
	}
	if _, err := resolve("hunter2"); strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows the value: %v", err)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.fail["hops"] = Finding{Severity: SeverityWarn, Detail: "a | b \x1b[31m <c> [d](e)"}
	rep := s.run()
	text, md := rep.Text(), rep.Markdown()
	for _, want := range []string{
		"Installation of brewery v1 (release 3) at cellar, onprem, isolated", "Signed by vendor (vendor) SHA256:aa", "Phase 2: Brew",
		"pass        clean-kettle  Clean the kettle", "warn: a | b [31m <c> [d](e)", "Left to do, in this order:\n  1. taste (waiting)", "Status: waiting for a person",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
	for _, want := range []string{
		"# Installation of brewery v1 at cellar", "## Phase 1: Prepare\n\n- [x] Clean the kettle (`clean-kettle`): **pass**", "  - [x] mash",
		`warn: a \| b \[31m &lt;c&gt; \[d\](e)`, "- [ ] taste (`taste`): **waiting**", "## Left to do, in this order",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("markdown lacks %q:\n%s", want, md)
		}
	}
	if strings.ContainsRune(text+md, 0x1b) {
		t.Error("a control character came through")
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	var dst struct {
		Port int `json:"port"`
	}
	if err := (Input{With: map[string]any{"port": int64(3)}}).Decode(&dst); err != nil || dst.Port != 3 {
		t.Error(dst, err)
	}
	if err := (Input{With: map[string]any{"prot": 3}}).Decode(&dst); err == nil || !strings.Contains(err.Error(), `"prot"`) {
		t.Error(err)
	}
	err := (Input{With: map[string]any{"port": "hunter2"}}).Decode(&dst)
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), `"port": want int, got string`) {
		t.Error(err)
	}
}
