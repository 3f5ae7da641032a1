package cluster

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Annotations of a pod that say how its containers fare once their images are
// pulled. They may change while the pod lives.
const (
	// OutcomeAnnotation holds an Outcome. Without it containers become ready,
	// and those of a pod that is not restarted always, as a Job's, succeed.
	OutcomeAnnotation = "cluster.airlock.test/outcome"
	// TextAnnotation is what the containers log, and what a failed readiness
	// probe says.
	TextAnnotation = "cluster.airlock.test/text"
)

// Outcome is how a container fares.
type Outcome string

// Outcomes.
const (
	// Fail ends containers with exit code 1. A pod that is always restarted
	// crashes instead.
	Fail Outcome = "fail"
	// NeverReady lets containers run and fail their readiness probe.
	NeverReady Outcome = "never-ready"
	// Crash lets containers exit with code 1 again and again.
	Crash Outcome = "crash"
	// Restarted lets containers run that have crashed once before.
	Restarted Outcome = "restarted"
	// Hang lets containers run that should end, as a Job that never does.
	Hang Outcome = "hang"
)

// outcome reads the annotation of a pod.
func outcome(p *corev1.Pod) (Outcome, error) {
	o := Outcome(p.Annotations[OutcomeAnnotation])
	switch o {
	case Fail:
		if p.Spec.RestartPolicy == corev1.RestartPolicyAlways {
			return Crash, nil
		}
		return o, nil
	case "", NeverReady, Crash, Restarted, Hang:
		return o, nil
	}
	return "", fmt.Errorf("annotation %s: unknown outcome %q", OutcomeAnnotation, string(o))
}

// logOf is what a container has logged.
func logOf(p *corev1.Pod) string {
	text := p.Annotations[TextAnnotation]
	if text == "" {
		return ""
	}
	return strings.TrimSuffix(text, "\n") + "\n"
}
