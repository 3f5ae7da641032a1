package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxRanges bounds the LimitRanges and ResourceQuotas of a namespace that are
// looked at.
const maxRanges = 100

// incoming is the container of a pod that is to come.
type incoming struct {
	Name     string              `json:"name"` // for messages
	Requests corev1.ResourceList `json:"requests"`
	Limits   corev1.ResourceList `json:"limits"`
}

// limits looks whether the LimitRanges of the namespace would keep pods out, and
// whether what they give a container by default is what its ResourceQuotas want.
// The rules are those of the admission plugins LimitRanger and ResourceQuota.
func (w *work) limits(ctx context.Context) error {
	if len(w.Containers) == 0 {
		return nil
	}
	core := w.Clientset().CoreV1()
	ranges, err := core.LimitRanges(w.Namespace).List(ctx, metav1.ListOptions{Limit: maxRanges})
	if err != nil {
		return fmt.Errorf("list limit ranges of %s: %w", w.Namespace, w.Explain(err))
	}
	quotas, err := core.ResourceQuotas(w.Namespace).List(ctx, metav1.ListOptions{Limit: maxRanges})
	if err != nil {
		return fmt.Errorf("list quotas of %s: %w", w.Namespace, w.Explain(err))
	}
	slices.SortFunc(ranges.Items, func(a, b corev1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range w.Containers {
		c := demand{requests: corev1.ResourceList{}, limits: corev1.ResourceList{}}
		maps.Copy(c.requests, p.Requests)
		maps.Copy(c.limits, p.Limits)
		for i := range ranges.Items {
			c.fill(&ranges.Items[i])
		}
		for i := range ranges.Items {
			name := ranges.Items[i].Name
			for _, reason := range c.against(&ranges.Items[i]) {
				w.find(codeLimits, fmt.Sprintf("limit range %s keeps the pods of %s out: %s", name, p.Name, reason), map[string]string{"limits": name, "name": p.Name, "reason": reason})
			}
		}
		for i := range quotas.Items {
			w.unsaid(&quotas.Items[i], p.Name, c)
		}
	}
	return nil
}

// unsaid reports what a quota counts and a container does not say: such a pod is
// refused, however much room there is.
func (w *work) unsaid(q *corev1.ResourceQuota, name string, c demand) {
	var missing []string
	for key := range q.Spec.Hard {
		kind, of, ok := strings.Cut(string(key), ".")
		if !ok {
			kind, of = "requests", string(key)
		}
		if of != "cpu" && of != "memory" {
			continue
		}
		have := c.requests
		if kind == "limits" {
			have = c.limits
		}
		if _, said := have[corev1.ResourceName(of)]; !said && (kind == "limits" || kind == "requests") {
			missing = append(missing, kind+"."+of)
		}
	}
	if len(missing) == 0 {
		return
	}
	slices.Sort(missing)
	reason := fmt.Sprintf("the pods of %s have no %s, and no LimitRange gives them one", name, strings.Join(missing, ", "))
	w.find(codeQuota, "quota "+q.Name+" keeps pods out: "+reason, map[string]string{"quota": q.Name, "name": name, "reason": reason})
}

// demand is what a container asks for and may take.
type demand struct{ requests, limits corev1.ResourceList }

// fill gives a container what a range gives to those that do not say.
func (c demand) fill(r *corev1.LimitRange) {
	for _, item := range r.Spec.Limits {
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		for _, set := range []struct{ to, from corev1.ResourceList }{{c.limits, item.Default}, {c.requests, item.DefaultRequest}} {
			for name, q := range set.from {
				if _, said := set.to[name]; !said {
					set.to[name] = q
				}
			}
		}
	}
}

// against says what speaks against a container, or the pod that it is alone in.
func (c demand) against(r *corev1.LimitRange) []string {
	var out []string
	for _, item := range r.Spec.Limits {
		if item.Type != corev1.LimitTypeContainer && item.Type != corev1.LimitTypePod {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(item.Default)) {
			if request, said := c.requests[name]; said && request.Cmp(c.limits[name]) > 0 && text(c.limits[name]) == text(item.Default[name]) {
				out = append(out, fmt.Sprintf("it gives a limit of %s %s to who has none, and %s are asked for", text(item.Default[name]), name, text(request)))
			}
		}
		out = append(out, c.bounds(item)...)
	}
	return out
}

func (c demand) bounds(item corev1.LimitRangeItem) []string {
	var out []string
	kind := strings.ToLower(string(item.Type))
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		if request, said := c.requests[name]; !said || request.Cmp(item.Min[name]) < 0 {
			out = append(out, fmt.Sprintf("a %s asks for %s %s at least, this one for %s", kind, text(item.Min[name]), name, orNone(request, said)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		limit, said := c.limits[name]
		if !said || limit.Cmp(item.Max[name]) > 0 {
			out = append(out, fmt.Sprintf("a %s has a limit of %s %s at most, this one of %s", kind, text(item.Max[name]), name, orNone(limit, said)))
		} else if request := c.requests[name]; request.Cmp(item.Max[name]) > 0 {
			out = append(out, fmt.Sprintf("a %s asks for %s %s at most, this one for %s", kind, text(item.Max[name]), name, text(request)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.MaxLimitRequestRatio)) {
		most, request, limit := item.MaxLimitRequestRatio[name], c.requests[name], c.limits[name]
		if request.IsZero() || limit.IsZero() || limit.AsApproximateFloat64() > most.AsApproximateFloat64()*request.AsApproximateFloat64() {
			out = append(out, fmt.Sprintf("a limit is %s times the %s that are asked for at most, here %s of %s", text(most), name, text(limit), text(request)))
		}
	}
	return out
}

func text(q resource.Quantity) string { return q.String() }

func orNone(q resource.Quantity, said bool) string {
	if !said {
		return "none"
	}
	return q.String()
}
