package install

import (
	"strings"
	"testing"
)

// TestRunJSONAgainstLedger: what run.json says of an item is what the ledger
// says, wherever the record is read.
func TestRunJSONAgainstLedger(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(items map[string]*itemRecord)
		want string
	}{
		"fail to pass":    {func(m map[string]*itemRecord) { m["weigh-hops"].State = StatePass }, "item weigh-hops: it is pass, the ledger has it fail"},
		"fail to pending": {func(m map[string]*itemRecord) { m["weigh-hops"].State = StatePending }, "item weigh-hops"},
		"gone":            {func(m map[string]*itemRecord) { delete(m, "weigh-hops") }, "item weigh-hops: it is missing"},
		"other inputs":    {func(m map[string]*itemRecord) { m["mash"].InputHash = sumOf(nil) }, "item mash: it is pass in both"},
		"other output": {func(m map[string]*itemRecord) {
			m["mash"].Outputs["mash.gravity"] = outputRecord{Value: []byte("13")}
		}, "item mash: it is pass in both"},
		"never ran": {func(m map[string]*itemRecord) { m["taste"] = &itemRecord{State: StatePass} }, "item taste"},
	} {
		p := newPub(t)
		p.fail["hops"] = Finding{Detail: "too light"}
		p.opts.Phases = "1-2"
		p.run()
		p.opts.Phases = ""
		if _, err := VerifyState(p.opts.State, nil); err != nil {
			t.Fatal(err)
		}
		patch(t, p.opts.State, func(s *snapshot) { c.edit(s.Items) })
		for where, f := range map[string]func() error{
			"verify": func() error { _, err := VerifyState(p.opts.State, nil); return err },
			"report": func() error { _, err := ReadReport(p.opts.State); return err },
			"status": func() error { _, err := LookDesk(t.Context(), p.opts); return err },
			"desk":   func() error { _, err := OpenDesk(t.Context(), nil, p.opts); return err },
			"run":    func() error { _, err := p.try(t.Context()); return err },
		} {
			err := f()
			if !errorIs[*LedgerError](err) || where != "run" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: error %v, want %q", name, where, err, c.want)
			}
		}
		if len(p.calls) > 0 {
			t.Errorf("%s: it ran %v", name, p.calls)
		}
	}
}

// TestSkippedAndBack: an item that a change of the site skips and brings back
// leaves a record that agrees with itself.
func TestSkippedAndBack(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, step := range []struct {
		size  int
		items []string
		want  State
	}{{200, nil, StatePass}, {10, []string{"clean-kettle"}, StateSkipped}, {200, []string{"clean-kettle"}, StatePending}, {10, nil, StateSkipped}, {200, nil, StatePass}} {
		s.opts.Site.Inputs["kettle.size"] = step.size
		s.opts.Items = step.items
		wantStates(t, s.run(), map[string]State{"cool": step.want})
		if _, err := VerifyState(s.opts.State, nil); err != nil {
			t.Fatal(err)
		}
	}
}
