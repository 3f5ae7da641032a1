package kube

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// Class sorts reasons, so that each can have its own code.
type Class string

// Classes of reasons.
const (
	ClassPull    Class = "pull"    // an image cannot be pulled
	ClassConfig  Class = "config"  // a Secret, ConfigMap or key is missing
	ClassCrash   Class = "crash"   // a container ends again and again
	ClassPending Class = "pending" // no node takes the pod
	ClassBlocked Class = "blocked" // no pod is made: quota or admission
	ClassUnready Class = "unready" // it runs and does not become ready
)

// Reason is why one container, or one pod, is not ready. All text is bounded and
// of one line; Log and Message may hold what a program prints, secrets included:
// the caller hands them to the engine, which takes the site's secrets out.
type Reason struct {
	Class     Class
	Pod       string // or the owner that cannot make one
	Container string // "" if it is the pod
	Image     string
	Reason    string // ImagePullBackOff, Unschedulable
	Message   string
	Restarts  int
	Exit      int      // of the last end of the container
	Log       []string // the last lines of a container that ended
	Events    []string // warnings about the pod, the newest last
}

func (r Reason) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s", r.Pod)
	if r.Class == ClassBlocked {
		b.Reset()
		b.WriteString(r.Pod)
	}
	if r.Container != "" {
		fmt.Fprintf(&b, " container %s", r.Container)
	}
	fmt.Fprintf(&b, ": %s", r.Reason)
	if r.Image != "" && r.Class == ClassPull {
		fmt.Fprintf(&b, " %s", r.Image)
	}
	if r.Message != "" {
		fmt.Fprintf(&b, ": %s", r.Message)
	}
	return b.String()
}

const (
	maxPods    = 200 // that are looked at
	maxReasons = 20
	maxLines   = 20
	maxLog     = 16 << 10
	maxEvents  = 5
)

// Why says why pods of a namespace are not ready: those that the label selector
// matches, or why there are none. Pods that are ready or have succeeded give no
// reason, nor do those that run while others cannot be made: then it is what the
// owner of those reports. At most 20 come back, the same ones for the same state.
// That a log or the events cannot be read hides no reason.
func (c *Client) Why(ctx context.Context, namespace, selector string) ([]Reason, error) {
	pods, err := c.clientset.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: maxPods})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", namespace, c.Explain(err))
	}
	if len(pods.Items) == 0 {
		return c.blocked(ctx, namespace, selector)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	var out []Reason
	for i := range pods.Items {
		if len(out) >= maxReasons {
			break
		}
		p := &pods.Items[i]
		if p.Status.Phase == corev1.PodSucceeded || Ready(p) {
			continue
		}
		out = append(out, c.pod(ctx, p)...)
	}
	if len(out) == 0 { // those that are there are well
		return c.blocked(ctx, namespace, selector)
	}
	return out[:min(len(out), maxReasons)], nil
}

// Ready reports whether a pod is ready to serve.
func Ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (c *Client) pod(ctx context.Context, p *corev1.Pod) []Reason {
	events := c.warnings(ctx, p.Namespace, p.Name)
	var out []Reason
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		r, ok := container(s)
		if !ok {
			continue
		}
		r.Pod, r.Events = p.Name, events
		if r.Class == ClassCrash {
			r.Log = c.log(ctx, p, s)
		}
		if r.Class == ClassPull {
			r.Message = pulled(r.Message, events)
		}
		out = append(out, r)
	}
	if len(out) > 0 {
		return out
	}
	r := Reason{Class: ClassUnready, Pod: p.Name, Reason: cmp.Or(clean(p.Status.Reason), "NotReady"), Message: clean(p.Status.Message), Events: events}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			message := strings.Join(append([]string{clean(cond.Message)}, c.unbound(ctx, p)...), "; ")
			return []Reason{{Class: ClassPending, Pod: p.Name, Reason: clean(cond.Reason), Message: message, Events: events}}
		}
		if cond.Type == corev1.ContainersReady && cond.Status != corev1.ConditionTrue && r.Message == "" {
			r.Message = clean(cond.Message)
		}
	}
	if len(events) > 0 {
		r.Message = cmp.Or(r.Message, events[len(events)-1])
	}
	return []Reason{r}
}

// pulled finds what the registry said: a container that waits for its next try
// says only that it waits.
func pulled(message string, events []string) string {
	for _, e := range slices.Backward(events) {
		if strings.Contains(e, "Failed to pull image") || strings.Contains(e, "failed to pull") {
			return e
		}
	}
	return message
}

// container says what is wrong with one, if anything.
func container(s corev1.ContainerStatus) (Reason, bool) {
	r := Reason{Container: s.Name, Image: clean(s.Image), Restarts: int(s.RestartCount)}
	if t := s.LastTerminationState.Terminated; t != nil {
		r.Exit = int(t.ExitCode)
	}
	if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
		r.Reason, r.Message = clean(w.Reason), clean(w.Message)
		switch w.Reason {
		case "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable":
			r.Class = ClassPull
		case "CreateContainerConfigError", "CreateContainerError":
			r.Class = ClassConfig
		case "CrashLoopBackOff", "RunContainerError", "StartError":
			r.Class = ClassCrash
			r.Message = strings.TrimPrefix(r.Message+ended(s.LastTerminationState.Terminated), "; ")
		default:
			r.Class = ClassUnready
		}
		return r, true
	}
	if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
		r.Class, r.Reason, r.Exit = ClassCrash, cmp.Or(clean(t.Reason), "Error"), int(t.ExitCode)
		r.Message = cmp.Or(clean(t.Message), fmt.Sprintf("it ended with status %d", t.ExitCode))
		return r, true
	}
	return r, false
}

// log returns the last lines of a container that ended, none if there are none.
func (c *Client) log(ctx context.Context, p *corev1.Pod, s corev1.ContainerStatus) []string {
	lines, size := int64(maxLines), int64(maxLog)
	for _, previous := range []bool{s.State.Terminated == nil, s.State.Terminated != nil} {
		stream, err := c.clientset.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
			Container: s.Name, Previous: previous, TailLines: &lines, LimitBytes: &size,
		}).Stream(ctx)
		if err != nil {
			continue
		}
		out := tail(stream)
		_ = stream.Close() // it was only read
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func tail(r io.Reader) []string {
	var out []string
	sc := bufio.NewScanner(io.LimitReader(r, maxLog))
	sc.Buffer(nil, maxLog+1)
	for sc.Scan() {
		if line := clean(sc.Text()); line != "" {
			out = append(out, line)
		}
	}
	return out[max(0, len(out)-maxLines):]
}

// Warnings are the last events about an object of a namespace, the newest last.
// That they cannot be read is none.
func (c *Client) Warnings(ctx context.Context, namespace, name string) []string {
	return c.warnings(ctx, namespace, name)
}

// warnings are the events about one object of a namespace.
func (c *Client) warnings(ctx context.Context, namespace, name string) []string {
	list, err := c.clientset.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.name": name, "type": corev1.EventTypeWarning}.String(), Limit: maxPods,
	})
	if err != nil {
		return nil
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return last(a).Compare(last(b).Time) })
	var out []string
	for _, e := range list.Items {
		if text := clean(e.Reason + ": " + e.Message); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out[max(0, len(out)-maxEvents):]
}

func last(e corev1.Event) metav1.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp
	case !e.EventTime.IsZero():
		return metav1.NewTime(e.EventTime.Time)
	}
	return e.CreationTimestamp
}

// ended is how a container that is to be started again ended: what the kubelet
// says of the wait is not why.
func ended(t *corev1.ContainerStateTerminated) string {
	if t == nil {
		return ""
	}
	text := fmt.Sprintf("; it ended with status %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		text = fmt.Sprintf("; it ended with %s, status %d", clean(t.Reason), t.ExitCode)
	}
	if t.Message != "" {
		text += ": " + clean(t.Message)
	}
	return text
}

// blocked says why there are fewer pods than wanted: what their owners report.
func (c *Client) blocked(ctx context.Context, namespace, selector string) ([]Reason, error) {
	names, err := c.short(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []Reason
	for _, name := range names[:min(len(names), maxReasons)] {
		if events := c.warnings(ctx, namespace, name); len(events) > 0 {
			reason, message, _ := strings.Cut(events[len(events)-1], ": ")
			out = append(out, Reason{Class: ClassBlocked, Pod: name, Reason: reason, Message: message, Events: events})
		}
	}
	return out, nil
}

// short names the owners of the pods of a selector that have fewer than they
// want. The labels of a ReplicaSet are those of its pods; those of others may be
// anything.
func (c *Client) short(ctx context.Context, namespace, selector string) ([]string, error) {
	var names []string
	apps, all := c.clientset.AppsV1(), metav1.ListOptions{Limit: maxPods}
	sets, err := apps.ReplicaSets(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: maxPods})
	if err != nil {
		return nil, fmt.Errorf("list replicasets of %s: %w", namespace, c.Explain(err))
	}
	for _, s := range sets.Items {
		if int(s.Status.Replicas) < replicas(s.Spec.Replicas) {
			names = append(names, s.Name)
		}
	}
	if sets, err := apps.StatefulSets(namespace).List(ctx, all); err == nil {
		for _, s := range sets.Items {
			if selects(s.Spec.Selector, selector) && int(s.Status.Replicas) < replicas(s.Spec.Replicas) {
				names = append(names, s.Name)
			}
		}
	}
	if sets, err := apps.DaemonSets(namespace).List(ctx, all); err == nil {
		for _, s := range sets.Items {
			if selects(s.Spec.Selector, selector) && s.Status.CurrentNumberScheduled < s.Status.DesiredNumberScheduled {
				names = append(names, s.Name)
			}
		}
	}
	if jobs, err := c.clientset.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: maxPods}); err == nil {
		for _, j := range jobs.Items {
			if j.Status.Active == 0 && j.Status.CompletionTime == nil {
				names = append(names, j.Name)
			}
		}
	}
	return names, nil
}

func selects(s *metav1.LabelSelector, selector string) bool {
	return metav1.FormatLabelSelector(s) == selector
}
