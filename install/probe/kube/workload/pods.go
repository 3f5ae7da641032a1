package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// workloads looks at each that is named.
func (w *work) workloads(ctx context.Context) error {
	for _, group := range []struct {
		kind  cluster.WorkloadKind
		names []string
	}{{cluster.KindDeployment, w.Deployments}, {cluster.KindDaemonSet, w.DaemonSets}, {cluster.KindStatefulSet, w.StatefulSets}} {
		for _, name := range group.names {
			r, err := w.Rollout(ctx, group.kind, w.Namespace, name)
			if err != nil {
				return err
			}
			if !r.Done {
				if err := w.unready(ctx, r); err != nil {
					return err
				}
				continue
			}
			if err := w.pods(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// unready says why a workload is not up: by its pods, or else by what it says
// itself. Pods that are held up by the same cause are told once.
func (w *work) unready(ctx context.Context, r cluster.Rollout) error {
	counts := map[string]string{"workload": r.Name, "ready": strconv.Itoa(r.Available), "want": strconv.Itoa(r.Want)}
	var reasons []cluster.Reason
	if r.Selector != "" {
		var err error
		if reasons, err = w.Why(ctx, w.Namespace, r.Selector); err != nil {
			return err
		}
	}
	seen := make(map[string]bool)
	for _, reason := range reasons {
		key := string(reason.Class) + reason.Container + reason.Image + reason.Reason
		if seen[key] {
			continue
		}
		seen[key] = true
		w.reason(reason, counts)
	}
	if len(reasons) == 0 {
		w.find(codeReady, fmt.Sprintf("%s %s: %d of %d pods are ready: %s", r.Kind, r.Name, r.Available, r.Want, r.Reason),
			with(counts, map[string]string{"reason": r.Reason}))
	}
	return nil
}

var byClass = map[cluster.Class]string{cluster.ClassPull: codePull, cluster.ClassConfig: codeConfig, cluster.ClassCrash: codeCrash}

func (w *work) reason(r cluster.Reason, more map[string]string) {
	code := byClass[r.Class]
	if code == "" {
		code = codeReady
	}
	text := strings.TrimPrefix(r.Reason+": "+r.Message, ": ")
	kind := ""
	if r.Class == cluster.ClassCrash {
		kind, text = w.Classes.Ended(r)
	}
	detail := r.String()
	if len(r.Log) > 0 {
		detail += "; its log ends: " + strings.Join(r.Log, " | ")
	}
	w.find(code, detail, with(more, map[string]string{
		"pod": r.Pod, "container": r.Container, "image": r.Image, "reason": text,
		"events": strings.Join(r.Events, "; "), "log": strings.Join(r.Log, " | "), "class": kind,
	}))
}

// pods looks at those of a workload that is up: images and restarts.
func (w *work) pods(ctx context.Context, r cluster.Rollout) error {
	want := slices.DeleteFunc(append([]string{w.Digest}, w.Digests...), func(s string) bool { return s == "" })
	if len(want) == 0 && w.MaxRestarts == nil {
		return nil
	}
	list, err := w.Clientset().CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: r.Selector, Limit: maxPods})
	if err != nil {
		return fmt.Errorf("list pods of %s: %w", w.Namespace, w.Explain(err))
	}
	for i := range list.Items {
		p := &list.Items[i]
		if p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning {
			continue
		}
		w.images(r, p, want)
		w.restarts(r, p)
	}
	return nil
}

// images wants one container at least to run one of the digests: a sidecar has
// its own.
func (w *work) images(r cluster.Rollout, p *corev1.Pod, want []string) {
	if len(want) == 0 || len(p.Status.ContainerStatuses) == 0 {
		return
	}
	var images, have []string
	for _, s := range p.Status.ContainerStatuses {
		digest := digestOf(s.ImageID)
		if slices.Contains(want, digest) {
			return
		}
		images, have = append(images, s.Image), append(have, orElse(digest, "unknown"))
	}
	w.find(codeDigest, fmt.Sprintf("pod %s runs %s by digest %s, want %s", p.Name, strings.Join(images, ", "), strings.Join(have, ", "), strings.Join(want, " or ")), map[string]string{
		"workload": r.Name, "pod": p.Name, "image": strings.Join(images, ", "), "digest": strings.Join(have, ", "), "want": strings.Join(want, " or "),
	})
}

// digestOf reads repository@sha256:… and what runtimes write in its place.
func digestOf(imageID string) string {
	if i := strings.LastIndex(imageID, "sha256:"); i >= 0 {
		return imageID[i:]
	}
	return ""
}

func (w *work) restarts(r cluster.Rollout, p *corev1.Pod) {
	if w.MaxRestarts == nil {
		return
	}
	for _, s := range p.Status.ContainerStatuses {
		if int(s.RestartCount) <= *w.MaxRestarts {
			continue
		}
		f := w.find(codeRestarts, fmt.Sprintf("container %s of pod %s has started again %d times", s.Name, p.Name, s.RestartCount), map[string]string{
			"workload": r.Name, "pod": p.Name, "restarts": strconv.Itoa(int(s.RestartCount)), "max": strconv.Itoa(*w.MaxRestarts),
		})
		f.Severity = install.SeverityWarn
	}
}

func with(a, b map[string]string) map[string]string {
	out := make(map[string]string, len(a)+len(b))
	for _, m := range []map[string]string{a, b} {
		maps.Copy(out, m)
	}
	return out
}
