package manifests

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/Masterminds/semver/v3"
)

// ParseChecklist decodes checklist.yaml strictly and checks it: identifiers,
// references between items, cycles, messages. CEL expressions and the arguments
// of steps are checked where they are run. name stands for the document in
// findings. The error is Findings: all of them at once.
func ParseChecklist(name string, data []byte) (*Checklist, error) {
	c := new(Checklist)
	if err := parse(name, data, MaxWritten, KindChecklist, c, c.check); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Checklist) check(d *document) {
	for _, key := range slices.Sorted(maps.Keys(c.Inputs)) {
		c.Inputs[key].check(d, key)
		c.platforms(d, c.Inputs[key].Platforms, path{"inputs", key})
	}
	phases, numbers := seen{}, map[int]bool{}
	for i, ph := range c.Phases {
		p := path{"phases", i}
		d.unique(phases, ph.ID, p.with("id"))
		if numbers[ph.Number] && ph.Number > 0 {
			d.at(p.with("number"), "phase %d is there already", ph.Number)
		}
		numbers[ph.Number] = true
	}
	ids, outputs := seen{}, seen{}
	for i, item := range c.Items {
		d.unique(ids, item.ID, path{"items", i, "id"})
		for _, key := range slices.Sorted(maps.Keys(item.Outputs)) {
			d.unique(outputs, key, path{"items", i, "outputs", key})
		}
	}
	for i, item := range c.Items {
		p := path{"items", i}
		if _, ok := phases[item.Phase]; !ok && item.Phase != "" && len(phases) > 0 {
			d.at(p.with("phase"), "no phase has id %s", quoted(item.Phase))
		}
		c.references(d, item, ids, p)
		item.check(d, p)
	}
	c.rows(d)
	c.cycles(d)
}

// rows checks that items and rows of the document they come from are the same.
func (c *Checklist) rows(d *document) {
	if c.Source == nil || len(c.Source.Rows) == 0 {
		return
	}
	rows, found := map[string]bool{}, map[string]bool{}
	for i, row := range c.Source.Rows {
		if rows[row] {
			d.at(path{"source", "rows", i}, "row %s is there already", quoted(row))
		}
		rows[row] = true
	}
	for i, item := range c.Items {
		at := path{"items", i, "seed_row"}
		switch {
		case item.SeedRow == "":
		case !rows[item.SeedRow]:
			d.at(at, "source.rows has no row %s%s", quoted(item.SeedRow), didYouMean(item.SeedRow, maps.Keys(rows)))
		case found[item.SeedRow]:
			d.at(at, "row %s is another item's already", quoted(item.SeedRow))
		}
		found[item.SeedRow] = true
	}
	for i, row := range c.Source.Rows {
		if !found[row] {
			d.at(path{"source", "rows", i}, "no item has seed_row %s", quoted(row))
		}
	}
}

func (in Input) check(d *document, key string) {
	p := path{"inputs", key}
	if !d.matches(inputPattern, key) {
		d.at(p, "want %s", patternWords(inputPattern))
	}
	if in.Type == "enum" && len(in.Enum) == 0 {
		d.at(p.with("enum"), "missing: type enum lists its values")
	}
	if in.Type != "enum" && in.Type != "" && len(in.Enum) > 0 {
		d.at(p.with("enum"), "has no meaning with type %s", in.Type)
	}
	if _, err := regexp.Compile(in.Pattern); err != nil {
		d.at(p.with("pattern"), "is not a regular expression (RE2)")
	}
	in.checkDefault(d, in.Default, p.with("default"))
	for i, def := range in.Defaults {
		at := p.with("defaults", i)
		if _, err := semver.NewConstraint(def.Versions); err != nil {
			d.at(at.with("versions"), "%s is not a range of versions such as \">= 4.1.0, < 5\"", quoted(def.Versions))
		}
		in.checkDefault(d, def.Value, at.with("value"))
	}
}

func (in Input) checkDefault(d *document, v any, p path) {
	switch {
	case v == nil:
	case in.Secret || in.Type == "secret":
		d.at(p, "a secret has no default")
	case !in.allows(v):
		d.at(p, "does not fit type %s", in.Type)
	}
}

// DefaultFor returns the default of an input for a version of the product, nil
// if there is none. A version that is not a semantic one gets Default.
func (in Input) DefaultFor(version string) any {
	v, err := semver.NewVersion(version)
	if err != nil {
		return in.Default
	}
	for _, def := range in.Defaults {
		if c, err := semver.NewConstraint(def.Versions); err == nil && c.Check(v) {
			return def.Value
		}
	}
	return in.Default
}

// allows reports whether v has the Go type that an input of this type decodes
// to, and for an enum is one of its values.
func (in Input) allows(v any) bool {
	switch v := v.(type) {
	case bool:
		return in.Type == "bool"
	case int64:
		return in.Type == "int"
	case []any:
		return in.Type == "list"
	case map[string]any:
		return in.Type == "map"
	case string:
		if in.Type == "enum" {
			return slices.Contains(in.Enum, v)
		}
		return !slices.Contains([]string{"bool", "int", "list", "map"}, in.Type)
	}
	return false
}

// references checks what an item names: inputs, items, platforms.
func (c *Checklist) references(d *document, item Item, ids seen, p path) {
	for i, in := range item.Inputs {
		if _, ok := c.Inputs[in]; !ok && in != "" {
			d.at(p.with("inputs", i), "no input is named %s%s", quoted(in), didYouMean(in, maps.Keys(c.Inputs)))
		}
	}
	for _, list := range []struct {
		key string
		ids []string
	}{{"needs", item.Needs}, {"children", item.Children}} {
		once := seen{}
		for i, id := range list.ids {
			at := p.with(list.key, i)
			if _, ok := ids[id]; !ok && id != "" {
				d.at(at, "no item has id %s%s", quoted(id), didYouMean(id, maps.Keys(ids)))
			}
			d.unique(once, id, at)
		}
	}
	c.platforms(d, item.Platforms, p)
}

// platforms checks that what is for some platforms names those of the checklist.
func (c *Checklist) platforms(d *document, names []string, p path) {
	for i, platform := range names {
		if len(c.Platforms) > 0 && !slices.Contains(c.Platforms, platform) {
			d.at(p.with("platforms", i), "%s is none of the checklist's platforms: %s", quoted(platform), strings.Join(c.Platforms, ", "))
		}
	}
}

// check checks an item by itself.
func (item Item) check(d *document, p path) {
	if item.Need == "conditional" && item.When == "" {
		d.at(p.with("when"), "missing: a conditional item says when")
	}
	d.duration(item.Freshness, p.with("freshness"))
	for _, key := range slices.Sorted(maps.Keys(item.Outputs)) {
		if !d.matches(inputPattern, key) {
			d.at(p.with("outputs", key), "want %s", patternWords(inputPattern))
		}
	}
	item.checkKind(d, p)
	if item.Attest != nil {
		d.duration(item.Attest.ValidFor, p.with("attestation", "valid_for"))
	}
	steps := seen{}
	for _, list := range []struct {
		key   string
		steps []Step
	}{{"steps", item.Steps}, {"probes", item.Probes}} {
		for i, s := range list.steps {
			at := p.with(list.key, i)
			d.unique(steps, s.ID, at.with("id"))
			d.duration(s.Timeout, at.with("timeout"))
			if s.Retry != nil {
				d.duration(s.Retry.Backoff, at.with("retry", "backoff"))
			}
			if list.key == "steps" && s.Severity != "" {
				d.at(at.with("severity"), "only probes have a severity")
			}
			for j, code := range s.Codes {
				if _, ok := item.Messages[code]; !ok && code != "" {
					d.at(at.with("codes", j), "messages has no %s: every code needs a cause and a fix", quoted(code))
				}
			}
		}
	}
	for _, code := range slices.Sorted(maps.Keys(item.Messages)) {
		item.Messages[code].check(d, code, p.with("messages", code))
	}
}

// checkKind checks what each kind of item must and must not have.
func (item Item) checkKind(d *document, p path) {
	want := map[string]string{ItemCheck: "probes", ItemAction: "steps", ItemAttest: "attestation", ItemGroup: "children"}[item.Kind]
	if want == "" {
		return // not a kind: reported by the field's rule
	}
	have := []struct {
		key     string
		present bool
		kinds   []string
	}{
		{"steps", len(item.Steps) > 0, []string{ItemAction}},
		{"probes", len(item.Probes) > 0, []string{ItemCheck, ItemAction, ItemAttest}},
		{"attestation", item.Attest != nil, []string{ItemAttest}},
		{"children", len(item.Children) > 0, []string{ItemGroup}},
	}
	for _, h := range have {
		switch {
		case h.present && !slices.Contains(h.kinds, item.Kind):
			d.at(p.with(h.key), "an item of kind %s has no %s", item.Kind, h.key)
		case !h.present && h.key == want:
			d.at(p.with(h.key), "missing: an item of kind %s has %s", item.Kind, h.key)
		}
	}
}

func (m Message) check(d *document, code string, p path) {
	if !d.matches(codePattern, code) {
		d.at(p, "want %s", patternWords(codePattern))
	}
	for _, part := range []struct{ key, text string }{{"cause", m.Cause}, {"fix", m.Fix}} {
		if _, err := template.New("").Parse(part.text); err != nil {
			d.at(p.with(part.key), "is not a template (Go text/template)")
		}
	}
}

// circle shows the way from id round to id, shortened in its middle.
func circle(trail []string, id string) string {
	loop := append(slices.Clone(trail[slices.Index(trail, id):]), id)
	if len(loop) > 8 {
		loop = slices.Concat(loop[:4], []string{"…"}, loop[len(loop)-3:])
	}
	return strings.Join(loop, " -> ")
}

// cycles reports every item that needs itself or holds itself, through others
// or not, once per cycle found.
func (c *Checklist) cycles(d *document) {
	index := map[string]int{}
	for i, item := range c.Items {
		if _, ok := index[item.ID]; !ok {
			index[item.ID] = i
		}
	}
	const (
		fresh = iota
		open
		done
	)
	state := make([]int, len(c.Items))
	var trail []string
	var visit func(i int)
	visit = func(i int) {
		item := c.Items[i]
		state[i] = open
		trail = append(trail, item.ID)
		for _, list := range []struct {
			key string
			ids []string
		}{{"needs", item.Needs}, {"children", item.Children}} {
			for j, id := range list.ids {
				next, ok := index[id]
				switch {
				case !ok || state[next] == done:
				case state[next] == open:
					d.at(path{"items", i, list.key, j}, "goes in a circle: %s", circle(trail, id))
				default:
					visit(next)
				}
			}
		}
		trail = trail[:len(trail)-1]
		state[i] = done
	}
	for i := range c.Items {
		if state[i] == fresh && index[c.Items[i].ID] == i {
			visit(i)
		}
	}
}
