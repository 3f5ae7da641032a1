//go:build all

package helm

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/manifests"
)

// TestRealCertManager installs cert-manager's own public chart with stand-ins
// under its images' names.
func TestRealCertManager(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/cert-manager/cert-manager@v1.21.2").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "cert-manager")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(module.Dir, "deploy/charts/cert-manager"))); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(dir, "Chart.yaml")
	text, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(meta, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(meta, bytes.ReplaceAll(text, []byte("v0.0.0"), []byte("v1.21.2")), 0o600); err != nil {
		t.Fatal(err)
	}
	b := carryDir(t, dir, "")
	settings := map[string]any{"crds": map[string]any{"enabled": true}, "global": map[string]any{"leaderElection": map[string]any{"namespace": "cert-manager"}}}
	in := real(t, "cert-manager", map[string]any{"create_namespace": true, "release": "cert-manager", "values": []any{settings}, "timeout": "90s"})
	// What the chart names is what a bundle would carry.
	c, _, err := charts.Load(t.Context(), b, "demo")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := c.Render(t.Context(), chart.Options{ReleaseName: "cert-manager"})
	if err != nil {
		t.Fatal(err)
	}
	m := manifests.RelocationMap{}
	for _, ref := range chart.Images(objects) {
		if stand[ref.Image] != nil {
			continue
		}
		if err := standIn(ref.Image); err != nil {
			t.Fatal(err)
		}
		m.Entries = append(m.Entries, manifests.Relocation{
			Kind: "image", Source: ref.Image, Target: strings.TrimPrefix(mirror.URL, "http://") + "/airlock/" + strings.TrimPrefix(ref.Image, "quay.io/"), Digest: sumOf(t)(ref.Image),
		})
	}
	if len(m.Entries) != 5 {
		t.Errorf("images: %+v", m.Entries)
	}
	in.With["map"] = asMap(t, m)
	res := must(t, b, in)
	manifest := stock(t, "cert-manager", "get", "manifest", "cert-manager")
	if strings.Contains(manifest, "quay.io") || !strings.Contains(manifest, "--acme-http01-solver-image="+strings.TrimPrefix(mirror.URL, "http://")) {
		t.Error("the solver's image is not relocated")
	}
	if !nothing(t, b, in) {
		t.Error("something to do after it was done")
	}
	if len(res.Outputs["helm.images"].([]any)) != 5 {
		t.Errorf("images %v", res.Outputs["helm.images"])
	}
	gone := m.Entries[0].Source
	m.Entries = m.Entries[1:]
	in.With["map"] = asMap(t, m)
	if f := fails(t, b, in, "HELM-09"); f.Fields["images"] != gone {
		t.Errorf("without %s: %+v", gone, f)
	}
	if _, err := Uninstall(t.Context(), Removal{Kubeconfig: box.Kubeconfig, Release: "cert-manager", Namespace: "cert-manager", Timeout: time.Minute}); err != nil {
		t.Error(err)
	}
}

func asMap(t *testing.T, m manifests.RelocationMap) map[string]any {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
