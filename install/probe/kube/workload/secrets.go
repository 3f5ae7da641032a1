package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"

	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxPods bounds how many pods of a namespace are looked at.
const maxPods = 500

// secrets looks at keys, and at pods that started with older content.
func (w *work) secrets(ctx context.Context) error {
	if len(w.Secrets) == 0 {
		return nil
	}
	core := w.Clientset().CoreV1()
	pods, err := core.Pods(w.Namespace).List(ctx, metav1.ListOptions{Limit: maxPods})
	if err != nil {
		return fmt.Errorf("list pods of %s: %w", w.Namespace, w.Explain(err))
	}
	for _, want := range w.Secrets {
		have, err := core.Secrets(w.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			w.find(codeKeys, fmt.Sprintf("there is no secret %s/%s", w.Namespace, want.Name), map[string]string{
				"secret": want.Name, "key": orElse(strings.Join(want.Keys, ", "), "every key"), "missing": strings.Join(want.Keys, ", "),
				"have": "nothing", "type": orElse(want.Type, "the installation"),
			})
			continue
		}
		if err != nil {
			return fmt.Errorf("read secret %s/%s: %w", w.Namespace, want.Name, w.Explain(err))
		}
		w.keys(want, have)
		w.stale(have, pods.Items)
	}
	return nil
}

// keys wants each to be there with something in it.
func (w *work) keys(want secret, have *corev1.Secret) {
	var missing []string
	for _, key := range want.Keys {
		if len(have.Data[key]) == 0 {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return
	}
	text := strings.Join(missing, ", ")
	w.find(codeKeys, fmt.Sprintf("secret %s/%s lacks %s", w.Namespace, want.Name, text), map[string]string{
		"secret": want.Name, "key": text, "missing": text, "have": strings.Join(slices.Sorted(maps.Keys(have.Data)), ", "), "type": orElse(want.Type, "the installation"),
	})
}

// stale reports each workload with a pod that read a secret into its environment
// before it changed.
func (w *work) stale(s *corev1.Secret, pods []corev1.Pod) {
	at, hash := cluster.SecretChanged(s), cluster.ContentHash(s)
	seen := make(map[string]bool)
	for i := range pods {
		p := &pods[i]
		began := cluster.Began(p)
		owner := cluster.Owner(p)
		if p.DeletionTimestamp != nil || began.IsZero() || !began.Before(at) || seen[owner] || !reads(&p.Spec, s.Name) || cluster.Marked(p.Annotations[cluster.AnnotationSecrets], s.Name) == hash {
			continue
		}
		seen[owner] = true
		f := w.find(codeStale, fmt.Sprintf("pod %s started %s, before secret %s changed %s", p.Name, began.UTC().Format(time.RFC3339), s.Name, at.UTC().Format(time.RFC3339)),
			map[string]string{"secret": s.Name, "workload": owner, "pod": p.Name})
		if w.Replaced {
			f.Severity = install.SeverityWarn
		}
	}
}

// reads reports whether a pod's environment comes from a secret. A mounted one
// follows by itself.
func reads(spec *corev1.PodSpec, secret string) bool {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil && e.SecretRef.Name == secret {
				return true
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == secret {
				return true
			}
		}
	}
	return false
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
