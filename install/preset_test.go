package install_test

import (
	"os"
	"testing"

	"github.com/airlock-project/airlock/install"
	chartaction "github.com/airlock-project/airlock/install/action/chart"
	mirroraction "github.com/airlock-project/airlock/install/action/mirror"
	"github.com/airlock-project/airlock/install/probe/file"
	"github.com/airlock-project/airlock/install/probe/host"
	"github.com/airlock-project/airlock/install/probe/http"
	"github.com/airlock-project/airlock/install/probe/registry"
	"github.com/airlock-project/airlock/install/probe/tcp"
	"github.com/airlock-project/airlock/install/probe/vendor"
	"github.com/airlock-project/airlock/install/probe/x509"
	"github.com/airlock-project/airlock/manifests"
)

// TestPresetCompiles checks the shipped checklist against the kinds as they
// are: expressions, codes, and every field that a message uses.
func TestPresetCompiles(t *testing.T) {
	data, err := os.ReadFile("../manifests/spacelift/checklist.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := manifests.ParseChecklist("checklist.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	probes := map[string]install.Probe{
		"vendor.chain": vendor.Probe{}, "file.digest": file.Probe{}, "host.syntax": host.Probe{}, "x509.files": x509.Probe{},
		"tcp.dial": tcp.Probe{}, "http.get": http.Probe{}, "registry.manifest": registry.Probe{},
	}
	actions := map[string]install.Action{"mirror": mirroraction.Action{}, "chart.render": chartaction.Action{}}
	if err := install.Compile(c, probes, actions); err != nil {
		t.Error(err)
	}
	for _, item := range c.Items {
		for _, s := range append(item.Steps, item.Probes...) {
			if probes[s.Run] == nil && actions[s.Run] == nil {
				t.Errorf("item %s: nothing does %s", item.ID, s.Run)
			}
		}
	}
	for kind, k := range probes {
		if _, ok := k.(install.Coder); !ok {
			t.Errorf("%s does not list its codes", kind)
		}
	}
}
