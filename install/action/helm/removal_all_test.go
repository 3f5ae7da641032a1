//go:build all

package helm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// uninstall removes the release prod of a namespace.
func uninstall(ctx context.Context, ns string) error {
	_, err := Uninstall(ctx, Removal{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns, Timeout: 3 * time.Second})
	return err
}

// letGo takes the finalizers of a ConfigMap away.
func letGo(t *testing.T, ns, name string) {
	t.Helper()
	if _, err := box.Clientset.CoreV1().ConfigMaps(ns).Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestRealHeld: what a finalizer holds is told with it, the release is not
// forgotten before it is gone, and nothing is installed over what is going.
func TestRealHeld(t *testing.T) {
	ns := box.Namespace(t)
	held := config("made", "") + thing("v1", "ConfigMap", "name: held, finalizers: [held.test/forever]", "")
	must(t, carry(t, odd(map[string]string{"a.yaml": held}), ""), real(t, ns, nil))
	says := "ConfigMap " + ns + "/held is being removed, held by finalizer held.test/forever"
	for range 2 {
		if err := uninstall(t.Context(), ns); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("it ended with %v", err)
		}
		wantRevisions(t, ns, "1 uninstalling")
	}
	in := real(t, ns, map[string]any{"timeout": "3s"})
	again := carry(t, odd(map[string]string{"a.yaml": config("made", "") + config("held", "")}), "")
	if _, err := (Action{}).apply(t.Context(), again, in); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("it ended with %v", err)
	}
	letGo(t, ns, "held")
	must(t, again, in)
	wantRevisions(t, ns, "1 deployed")

	other := box.Namespace(t)
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "held", Finalizers: []string{"held.test/forever"},
		Labels: map[string]string{labelManaged: "Helm"}, Annotations: map[string]string{annotationName: "prod", annotationNamespace: other},
	}}
	if _, err := box.Clientset.CoreV1().ConfigMaps(other).Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := box.Clientset.CoreV1().ConfigMaps(other).Delete(t.Context(), "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	refusal(t, again, real(t, other, nil), "HELM-11", "ConfigMap "+other+"/held is being removed, held by finalizer held.test/forever")
	letGo(t, other, "held")
}

// TestRealUndoHeld: also what a failed installation leaves is told, and found
// again by the next run.
func TestRealUndoHeld(t *testing.T) {
	ns := box.Namespace(t)
	in := real(t, ns, map[string]any{"timeout": "3s"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b := carry(t, odd(map[string]string{"a.yaml": thing("v1", "ConfigMap", "name: held, finalizers: [held.test/forever]", ""), "h.yaml": endlessHook("post-install")}), "")
	res, err := Action{}.apply(ctx, b, in)
	last := ""
	if n := len(res.Findings); n > 0 {
		last = res.Findings[n-1].Detail
	}
	if err != nil || !strings.HasPrefix(last, "not removed: ") || !strings.Contains(last, "finalizer held.test/forever") {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	wantRevisions(t, ns, "1 uninstalling")
	letGo(t, ns, "held")
	must(t, carry(t, odd(map[string]string{"a.yaml": config("made", "")}), ""), in)
	wantRevisions(t, ns, "1 deployed")
}

// TestRealUninstallCancelled: a removal ends with its context while a hook of it
// does not, and the next one goes on.
func TestRealUninstallCancelled(t *testing.T) {
	for _, event := range []string{"pre-delete", "post-delete"} {
		t.Run(event, func(t *testing.T) {
			ns := box.Namespace(t)
			must(t, carry(t, odd(map[string]string{"a.yaml": config("made", ""), "h.yaml": endlessHook(event)}), ""), real(t, ns, nil))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := whenHooked(t, ns, cancel)
			_, err := Uninstall(ctx, Removal{Kubeconfig: box.Kubeconfig, Release: "prod", Namespace: ns, Timeout: 5 * time.Minute})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
			if d := time.Since(<-ended); d > 20*time.Second {
				t.Errorf("it went on for %s", d)
			}
			wantRevisions(t, ns, "1 uninstalling")
			if err := uninstall(t.Context(), ns); err == nil || !strings.Contains(err.Error(), "hook Job "+ns+"/h: pod h-") {
				t.Errorf("the hook is not named: %v", err)
			}
		})
	}
}
