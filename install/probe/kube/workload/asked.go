package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// asked is a path that the kubelet asks a Deployment's pods for before it takes
// them for ready. That a pod is available says that it answered; without the
// question it says only that a process runs.
type asked struct {
	Deployment string `json:"deployment"`
	Readiness  string `json:"readiness"` // path
	Startup    string `json:"startup"`   // path
	Port       int    `json:"port"`      // 0: any
}

func (a asked) check() error {
	if a.Deployment == "" || (a.Readiness == "") == (a.Startup == "") {
		return errors.New("asked is a list of {deployment, readiness or startup, port}")
	}
	return nil
}

// questions looks whether the Deployments have these probes. Of one that is not
// there the list of deployments tells.
func (w *work) questions(ctx context.Context) error {
	for _, a := range w.Asked {
		d, err := w.Clientset().AppsV1().Deployments(w.Namespace).Get(ctx, a.Deployment, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read deployment %s/%s: %w", w.Namespace, a.Deployment, w.Explain(err))
		}
		if slices.ContainsFunc(d.Spec.Template.Spec.Containers, a.by) {
			continue
		}
		kind, path := "readiness", a.Readiness
		if path == "" {
			kind, path = "startup", a.Startup
		}
		reason := fmt.Sprintf("no container has a %s probe that asks for %s", kind, path)
		if a.Port != 0 {
			reason += fmt.Sprintf(" on port %d", a.Port)
		}
		w.find(codeAsked, "deployment "+a.Deployment+": "+reason, map[string]string{"workload": a.Deployment, "path": path, "reason": reason})
	}
	return nil
}

// by reports whether a container is asked so.
func (a asked) by(c corev1.Container) bool {
	probe, path := c.ReadinessProbe, a.Readiness
	if a.Startup != "" {
		probe, path = c.StartupProbe, a.Startup
	}
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path {
		return false
	}
	return a.Port == 0 || portOf(&c, probe.HTTPGet.Port) == a.Port
}

// portOf is the number of a container's port, 0 if it has none of the name.
func portOf(c *corev1.Container, port intstr.IntOrString) int {
	if port.Type == intstr.Int {
		return port.IntValue()
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort)
		}
	}
	return 0
}
