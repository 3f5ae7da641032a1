package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// namespace looks whether it is there and stays.
func (w *work) namespace(ctx context.Context) error {
	if !w.Active {
		return nil
	}
	err := w.Terminating(ctx, w.Namespace)
	if apierrors.IsNotFound(err) {
		w.find(cluster.CodeTerminating, "namespace "+w.Namespace+" does not exist", map[string]string{"phase": "missing", "holds": "nothing"})
		return nil
	}
	return err
}

// quotas looks whether every ResourceQuota has room for what is to come. Where
// the namespace has pods already, what is to come is taken to be there, and only
// the hard limit counts.
func (w *work) quotas(ctx context.Context) error {
	if len(w.Quota) == 0 {
		return nil
	}
	core := w.Clientset().CoreV1()
	quotas, err := core.ResourceQuotas(w.Namespace).List(ctx, metav1.ListOptions{Limit: 100})
	if err != nil {
		return fmt.Errorf("list quotas of %s: %w", w.Namespace, w.Explain(err))
	}
	if len(quotas.Items) == 0 {
		return nil
	}
	pods, err := core.Pods(w.Namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list pods of %s: %w", w.Namespace, w.Explain(err))
	}
	for _, name := range slices.Sorted(maps.Keys(w.Quota)) {
		need, err := resource.ParseQuantity(fmt.Sprint(w.Quota[name]))
		if err != nil {
			return fmt.Errorf("quota %s: %q is no amount", name, fmt.Sprint(w.Quota[name]))
		}
		for i := range quotas.Items {
			w.quota(&quotas.Items[i], name, need, len(pods.Items) > 0)
		}
	}
	return nil
}

func (w *work) quota(q *corev1.ResourceQuota, name string, need resource.Quantity, running bool) {
	// A quota may say cpu for requests.cpu.
	for _, key := range slices.Compact([]corev1.ResourceName{corev1.ResourceName(name), corev1.ResourceName(strings.TrimPrefix(name, "requests.")), corev1.ResourceName("count/" + name)}) {
		hard, limited := q.Status.Hard[key]
		if !limited {
			if hard, limited = q.Spec.Hard[key]; !limited {
				continue
			}
		}
		room, used := hard.DeepCopy(), q.Status.Used[key]
		if !running {
			room.Sub(used)
		}
		if room.Cmp(need) >= 0 {
			continue
		}
		reason := fmt.Sprintf("%s: %s are needed, its limit is %s", key, need.String(), hard.String())
		if !running {
			reason += fmt.Sprintf(" and %s are in use", used.String())
		}
		w.find(codeQuota, "quota "+q.Name+" leaves no room: "+reason, map[string]string{"quota": q.Name, "reason": reason})
	}
}
