package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// served is a Service that has to lead somewhere.
type served struct {
	Name string `json:"name"`
	Port int32  `json:"port"` // that it has to have; 0: any
}

// UnmarshalJSON takes a name alone too.
func (s *served) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &s.Name) == nil {
		return nil
	}
	type plain served
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(s)); err != nil || s.Name == "" {
		return errors.New("services are names, or {name, port}")
	}
	return nil
}

// services looks whether each has an endpoint that is ready.
func (w *work) services(ctx context.Context) error {
	for _, want := range w.Services {
		reason, err := w.service(ctx, want)
		if err != nil {
			return err
		}
		if reason != "" {
			w.find(codeServed, "service "+w.Namespace+"/"+want.Name+": "+reason, map[string]string{"service": want.Name, "reason": reason})
		}
	}
	return nil
}

// service says why a Service leads nowhere, "" if it does not.
func (w *work) service(ctx context.Context, want served) (string, error) {
	s, err := w.Clientset().CoreV1().Services(w.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "it does not exist", nil
	}
	if err != nil {
		return "", fmt.Errorf("read service %s/%s: %w", w.Namespace, want.Name, w.Explain(err))
	}
	if want.Port != 0 && !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == want.Port }) {
		return fmt.Sprintf("it has no port %d", want.Port), nil
	}
	ready, err := w.endpoints(ctx, s)
	switch {
	case err != nil:
		return "", err
	case ready == 0:
		return "it has no endpoint that is ready", nil
	}
	return "", nil
}

// endpoints counts addresses that are ready in the EndpointSlices of a Service.
// Who may not list those, as a user of a Role made by hand, is told by the pods
// that the Service selects.
func (w *work) endpoints(ctx context.Context, s *corev1.Service) (int, error) {
	list, err := w.Clientset().DiscoveryV1().EndpointSlices(w.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{discoveryv1.LabelServiceName: s.Name}.String(), Limit: maxPods,
	})
	if apierrors.IsForbidden(err) {
		return w.selected(ctx, s)
	}
	if err != nil {
		return 0, fmt.Errorf("list endpointslices of %s: %w", w.Namespace, w.Explain(err))
	}
	n := 0
	for i := range list.Items {
		for _, e := range list.Items[i].Endpoints {
			if (e.Conditions.Ready == nil || *e.Conditions.Ready) && len(list.Items[i].Ports) > 0 {
				n += len(e.Addresses)
			}
		}
	}
	return n, nil
}

// selected counts pods that are ready and that a Service selects.
func (w *work) selected(ctx context.Context, s *corev1.Service) (int, error) {
	if len(s.Spec.Selector) == 0 {
		return 0, nil
	}
	pods, err := w.Clientset().CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set(s.Spec.Selector).String(), Limit: maxPods})
	if err != nil {
		return 0, fmt.Errorf("list pods of %s: %w", w.Namespace, w.Explain(err))
	}
	n := 0
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil && cluster.Ready(&pods.Items[i]) {
			n++
		}
	}
	return n, nil
}
