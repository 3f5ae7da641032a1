package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStatus computes the status of a pod with an init container, twice: the
// second time, a minute later, nothing changes.
func TestStatus(t *testing.T) {
	have := map[string]pulled{"setup": {id: "x@sha256:1"}, "web": {id: "x@sha256:2"}}
	lack := map[string]pulled{"setup": {id: "x@sha256:1"}, "web": {reason: "ImagePullBackOff", message: "no"}}
	for name, c := range map[string]struct {
		images  map[string]pulled
		restart corev1.RestartPolicy
		outcome Outcome
		phase   corev1.PodPhase
		ready   bool
		state   string
	}{
		"runs":            {have, corev1.RestartPolicyAlways, "", corev1.PodRunning, true, "running"},
		"not ready":       {have, corev1.RestartPolicyAlways, NeverReady, corev1.PodRunning, false, "running"},
		"crashes":         {have, corev1.RestartPolicyAlways, Crash, corev1.PodRunning, false, "CrashLoopBackOff"},
		"job":             {have, corev1.RestartPolicyNever, "", corev1.PodSucceeded, false, "exit 0"},
		"job that fails":  {have, corev1.RestartPolicyNever, Fail, corev1.PodFailed, false, "exit 1"},
		"job that hangs":  {have, corev1.RestartPolicyNever, Hang, corev1.PodRunning, true, "running"},
		"image missing":   {lack, corev1.RestartPolicyAlways, "", corev1.PodPending, false, "ImagePullBackOff"},
		"init image only": {map[string]pulled{"setup": lack["web"]}, corev1.RestartPolicyAlways, "", corev1.PodPending, false, "PodInitializing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{
				RestartPolicy:  c.restart,
				InitContainers: []corev1.Container{{Name: "setup"}}, Containers: []corev1.Container{{Name: "web"}},
			}}
			v := view{pod: p, images: c.images, outcome: c.outcome, ip: "10.244.0.2", now: metav1.NewTime(time.Unix(1000, 0))}
			st := v.status()
			ready := false
			for _, cond := range st.Conditions {
				if cond.Type == corev1.PodReady {
					ready = cond.Status == corev1.ConditionTrue
				}
			}
			if st.Phase != c.phase || ready != c.ready || kindOf(st.ContainerStatuses[0]) != c.state {
				t.Errorf("phase %s, ready %t, state %s: %+v", st.Phase, ready, kindOf(st.ContainerStatuses[0]), st)
			}
			p.Status = st
			v.now = metav1.NewTime(time.Unix(1060, 0))
			if d := cmp.Diff(st, v.status()); d != "" {
				t.Errorf("it changes by itself:\n%s", d)
			}
		})
	}
}

func TestLast(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb", 1, "b"}, {"a\n", 5, "a\n"}, {"", 3, ""}, {"a\n", 0, ""}} {
		if got := last(c.text, c.n); got != c.want {
			t.Errorf("last(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
}
