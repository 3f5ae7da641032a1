package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
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

// TestPresetInfrastructureFirst: where Terraform makes database, storage and
// registry, their rows wait for it; elsewhere its row does not apply, and an
// item that does not apply holds nobody up.
func TestPresetInfrastructureFirst(t *testing.T) {
	const deploy = "deploy-infrastructure-terraform"
	c := presetChecklist(t)
	for _, item := range c.Items {
		if item.ID == deploy && (item.Need != "conditional" || !strings.Contains(item.When, `in.infra.mode == "terraform"`)) {
			t.Errorf("%s applies when %q", deploy, item.When)
		}
		if slices.Contains([]string{"postgresql-database", "object-storage", "setup-registry-push-images", "configure-kubectl-credentials"}, item.ID) && !slices.Contains(item.Needs, deploy) {
			t.Errorf("%s does not wait for %s", item.ID, deploy)
		}
	}
}

// TestPresetCounts: README speaks of the rows that show and status count.
func TestPresetCounts(t *testing.T) {
	var b strings.Builder
	c := presetChecklist(t)
	printChecklist(&b, c)
	rows, groups := len(c.Source.Rows), 0
	for _, item := range c.Items {
		if item.Kind == manifests.ItemGroup {
			groups++
		}
	}
	first, _, _ := strings.Cut(b.String(), "\n")
	if want := fmt.Sprintf(": %d items, %d rows", len(c.Items)-groups, rows); !strings.HasSuffix(first, want) {
		t.Errorf("show says %q, want %q", first, want)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("All %d rows of the product's installation checklist", rows); !strings.Contains(string(readme), want) {
		t.Errorf("README lacks %q", want)
	}
}
