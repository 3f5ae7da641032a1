//go:build all

package helm

import (
	"os/exec"
	"strings"
	"testing"
)

// TestRealOthers leaves alone what the stock helm began and never finished.
func TestRealOthers(t *testing.T) {
	ns, dir := box.Namespace(t), chartDir(t, demoChart())
	b := carry(t, demoChart(), "")
	cmd := exec.CommandContext(t.Context(), "helm", "install", "prod", dir, "--namespace", ns, "--kubeconfig", box.Kubeconfig,
		"--set", "image="+late, "--set", "greeting=theirs", "--wait", "--timeout", "2s")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("it works without its image: %s", out)
	}
	before := stock(t, ns, "get", "manifest", "prod")
	f := fails(t, b, real(t, ns, nil), "HELM-07")
	if f.Fields["status"] != "failed" {
		t.Errorf("%+v", f)
	}
	wantRevisions(t, ns, "1 failed")
	if after := stock(t, ns, "get", "manifest", "prod"); after != before || !strings.Contains(after, "theirs") {
		t.Errorf("changed:\n%s", after)
	}
	stock(t, ns, "uninstall", "prod", "--wait") // as the finding says
	must(t, b, real(t, ns, nil))
	wantRevisions(t, ns, "1 deployed")
}
