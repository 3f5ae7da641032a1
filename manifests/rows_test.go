package manifests

import (
	"strings"
	"testing"
)

// TestSourceRows: a row that is lost, doubled or misspelt is a mistake.
func TestSourceRows(t *testing.T) {
	const head = "apiVersion: airlock/v1\nkind: Checklist\nproduct: brewery\nsource:\n  title: brewing\n  rows: [Clean, Brew]\nphases:\n  - {id: p1, number: 1, title: Prepare}\nitems:\n"
	item := func(id, row string) string {
		return "  - {id: " + id + ", phase: p1, seed_row: " + row + ", kind: check, probes: [{id: look, run: look}]}\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"all":      {head + item("a", "Clean") + item("b", "Brew") + "  - {id: c, phase: p1, kind: check, probes: [{id: look, run: look}]}\n", ""},
		"lost":     {head + item("a", "Clean"), `no item has seed_row "Brew"`},
		"doubled":  {head + item("a", "Clean") + item("b", "Brew") + item("c", "Brew"), `row "Brew" is another item's already`},
		"misspelt": {head + item("a", "Clean") + item("b", "Brw"), `source.rows has no row "Brw"`},
		"twice in the document": {
			strings.Replace(head, "[Clean, Brew]", "[Clean, Clean]", 1) + item("a", "Clean"), `row "Clean" is there already`,
		},
	} {
		_, err := ParseChecklist("checklist.yaml", []byte(c.text))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}
