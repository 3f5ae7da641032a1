package main

import (
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
)

// TestPresetLoads checks the shipped checklist against the kinds as they are
// registered: expressions, codes, and every field that a message uses.
func TestPresetLoads(t *testing.T) {
	c := presetChecklist(t)
	c.Product, c.Source = "demo", nil
	site, _ := rowSite(t, row{}, c)
	b := rowBundle(t, row{}, c)
	a := &app{output: "text"}
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := install.Options{Site: site, DryRun: true}
	o.Probes, o.Actions = a.kinds(hosts, nil, site)
	if _, err := install.Load(t.Context(), b, o); err != nil {
		t.Error(err)
	}
	for kind, k := range o.Probes {
		if _, ok := k.(install.Coder); !ok {
			t.Errorf("probe %s does not list its codes", kind)
		}
	}
}

// unavailable are the kinds that later versions bring: items with them are
// reported as unavailable, never as passed.
var unavailable = map[string]bool{
	"tf.run": true, "tf.converged": true, "tf.mirror": true,
}

func TestPresetKinds(t *testing.T) {
	a := &app{output: "text"}
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	probes, actions := a.kinds(hosts, nil, &manifests.Site{})
	for _, item := range presetChecklist(t).Items {
		for _, s := range append(item.Steps, item.Probes...) {
			known := probes[s.Run] != nil || actions[s.Run] != nil
			if known == unavailable[s.Run] {
				t.Errorf("item %s: %s is registered: %v, want %v", item.ID, s.Run, known, !unavailable[s.Run])
			}
		}
	}
}
