//go:build all

package helm

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/testdata/cluster"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestRealSaid holds what a step says it did against the stock tools: each object
// of helm.objects is in the manifest that helm has and in the cluster, none is
// missing, and helm.images are those of the pods' templates.
func TestRealSaid(t *testing.T) {
	ns := box.Namespace(t)
	res := must(t, carry(t, demoChart(), ""), real(t, ns, values(map[string]any{"replicas": 1})))
	var said []string
	for _, o := range res.Outputs["helm.objects"].([]any) {
		m := o.(map[string]any)
		name := fmt.Sprintf("%s/%s", m["kind"], m["name"])
		said = append(said, name)
		args := []string{"get", fmt.Sprint(m["kind"]), fmt.Sprint(m["name"]), "--kubeconfig", box.Kubeconfig, "--output", "name"}
		if at, ok := m["namespace"]; ok {
			args = append(args, "--namespace", fmt.Sprint(at))
		}
		if out, err := exec.CommandContext(t.Context(), "kubebox", append([]string{"kubectl"}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("%s is not in the cluster: %s", name, out)
		}
	}
	objects, err := chart.Parse(stock(t, ns, "get", "manifest", "prod"))
	if err != nil {
		t.Fatal(err)
	}
	var recorded []string
	for _, o := range objects {
		recorded = append(recorded, o.Kind()+"/"+o.Name())
	}
	slices.Sort(said)
	slices.Sort(recorded)
	if !slices.Equal(said, recorded) {
		t.Errorf("said %q, helm has %q", said, recorded)
	}
	hooks, err := chart.Parse(stock(t, ns, "get", "hooks", "prod"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(res.Outputs["helm.images"]), fmt.Sprint(imagesOf(slices.Concat(objects, hooks))); got != want {
		t.Errorf("images %s, helm has %s", got, want)
	}
	var list []struct{ Name, Status, Chart, Revision string }
	if err := json.Unmarshal([]byte(stock(t, ns, "list", "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Name != "prod" || list[0].Status != res.Outputs["helm.status"] || list[0].Revision != fmt.Sprint(res.Outputs["helm.revision"]) || list[0].Chart != "demo-1.0.0" {
		t.Errorf("helm list: %+v; said %+v", list, res.Outputs)
	}
}

// TestRealJobs waits for a Job of a release that is no hook: one that ends well
// ends the wait, one that fails or hangs fails the release.
func TestRealJobs(t *testing.T) {
	for outcome, want := range map[cluster.Outcome]string{"": "", cluster.Fail: "HELM-03", cluster.Hang: "HELM-05"} {
		t.Run("outcome "+string(outcome), func(t *testing.T) {
			ns, files := box.Namespace(t), demoChart()
			files["templates/once.yaml"] = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec:\n  backoffLimit: 0\n  template:\n    metadata: {annotations: {" + cluster.OutcomeAnnotation + ": \"" + string(outcome) + "\"}}\n    spec: {restartPolicy: Never, containers: [{name: c, image: \"quay.io/demo/web:1\"}]}\n"
			b := carry(t, files, "")
			if want == "" {
				must(t, b, real(t, ns, nil))
				j, err := box.Clientset.BatchV1().Jobs(ns).Get(t.Context(), "once", metav1.GetOptions{})
				if err != nil || j.Status.Succeeded != 1 {
					t.Errorf("the release is deployed before its Job has ended: %+v, %v", j.Status, err)
				}
				return
			}
			if f := fails(t, b, real(t, ns, map[string]any{"timeout": "6s"}), want); !strings.Contains(f.Detail, "once") {
				t.Errorf("the Job is not named: %+v", f)
			}
		})
	}
}
