package cluster

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pulled is the result of a container's pull: an image ID, or why there is none.
type pulled struct {
	id      string
	reason  string // ImagePullBackOff or InvalidImageName
	message string
}

// view is what decides a pod's status.
type view struct {
	pod     *corev1.Pod
	images  map[string]pulled // by container
	outcome Outcome
	ip      string
	now     metav1.Time
}

// status computes what a kubelet would report. It keeps what the pod's status
// already has, so that the same view gives the same status.
func (v view) status() corev1.PodStatus {
	st := *v.pod.Status.DeepCopy()
	if st.StartTime == nil {
		st.StartTime = &v.now
	}
	st.HostIP, st.HostIPs = nodeIP, []corev1.HostIP{{IP: nodeIP}}
	old := map[string]corev1.ContainerStatus{}
	for _, s := range slices.Concat(st.InitContainerStatuses, st.ContainerStatuses) {
		old[s.Name] = s
	}
	st.InitContainerStatuses, st.ContainerStatuses = nil, nil
	initialized := true
	for _, c := range v.pod.Spec.InitContainers {
		sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		want := exited("Completed", 0)
		if sidecar {
			want = running
		}
		s := v.container(c, old[c.Name], initialized, want)
		s.Ready = s.State.Terminated != nil || s.State.Running != nil
		initialized = initialized && s.Ready
		st.InitContainerStatuses = append(st.InitContainerStatuses, s)
	}
	for _, c := range v.pod.Spec.Containers {
		st.ContainerStatuses = append(st.ContainerStatuses, v.container(c, old[c.Name], initialized, v.want()))
	}
	v.conclude(&st, initialized)
	return st
}

// state makes a container's status from the moment of its change.
type state func(s *corev1.ContainerStatus, now metav1.Time)

func running(s *corev1.ContainerStatus, now metav1.Time) {
	started := true
	s.Started, s.State.Running = &started, &corev1.ContainerStateRunning{StartedAt: now}
}

func exited(reason string, code int32) state {
	return func(s *corev1.ContainerStatus, now metav1.Time) {
		s.State.Terminated = &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, StartedAt: now, FinishedAt: now}
	}
}

// want is the state that the main containers reach.
func (v view) want() state {
	switch v.outcome {
	case Fail:
		return exited("Error", 1)
	case Crash:
		return func(s *corev1.ContainerStatus, now metav1.Time) {
			exited("Error", 1)(s, now)
			s.LastTerminationState, s.State = s.State, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "CrashLoopBackOff", Message: "back-off 10s restarting failed container=" + s.Name + " pod=" + v.pod.Name + "_" + v.pod.Namespace,
			}}
			s.RestartCount = 1
		}
	case Restarted:
		return func(s *corev1.ContainerStatus, now metav1.Time) {
			running(s, now)
			s.RestartCount = 1
		}
	case NeverReady, Hang:
		return running
	}
	if v.pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		return exited("Completed", 0)
	}
	return running
}

// container computes one container's status.
func (v view) container(c corev1.Container, old corev1.ContainerStatus, may bool, want state) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	got := v.images[c.Name]
	switch {
	case !may:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
		return s
	case got.reason != "":
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: got.reason, Message: got.message}
		return s
	case got.id == "":
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		return s
	}
	s.ImageID, s.ContainerID = got.id, "fake://"+string(v.pod.UID)+"/"+c.Name
	want(&s, v.now)
	s.Ready = s.State.Running != nil && v.outcome != NeverReady
	if sameState(s, old) { // it has not changed: neither have its times
		s.State, s.LastTerminationState = old.State, old.LastTerminationState
	}
	return s
}

func sameState(a, b corev1.ContainerStatus) bool {
	return kindOf(a) == kindOf(b)
}

func kindOf(s corev1.ContainerStatus) string {
	switch {
	case s.State.Running != nil:
		return "running"
	case s.State.Terminated != nil:
		return fmt.Sprint("exit ", s.State.Terminated.ExitCode)
	case s.State.Waiting != nil:
		return s.State.Waiting.Reason
	}
	return ""
}

// conclude sets phase, address and conditions from the containers.
func (v view) conclude(st *corev1.PodStatus, initialized bool) {
	var unready []string
	over, failed, created := true, false, initialized
	for _, s := range st.ContainerStatuses {
		over = over && s.State.Terminated != nil
		failed = failed || s.State.Terminated != nil && s.State.Terminated.ExitCode != 0
		created = created && s.ImageID != ""
		if !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	st.Phase = corev1.PodPending
	switch {
	case over && failed:
		st.Phase = corev1.PodFailed
	case over:
		st.Phase = corev1.PodSucceeded
	case created:
		st.Phase = corev1.PodRunning
	}
	if created && st.PodIP == "" {
		st.PodIP, st.PodIPs = v.ip, []corev1.PodIP{{IP: v.ip}}
	}
	ready, reason, message := corev1.ConditionTrue, "", ""
	if len(unready) > 0 {
		ready, reason, message = corev1.ConditionFalse, "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	}
	if over {
		reason, message = "PodCompleted", ""
		if failed {
			reason = "PodFailed"
		}
	}
	begun := corev1.ConditionTrue
	if !initialized {
		begun = corev1.ConditionFalse
	}
	v.condition(st, corev1.PodCondition{Type: corev1.PodInitialized, Status: begun})
	v.condition(st, corev1.PodCondition{Type: corev1.ContainersReady, Status: ready, Reason: reason, Message: message})
	v.condition(st, corev1.PodCondition{Type: corev1.PodReady, Status: ready, Reason: reason, Message: message})
}

// condition sets a condition; its time changes with its status only.
func (v view) condition(st *corev1.PodStatus, c corev1.PodCondition) {
	c.LastTransitionTime = v.now
	for i, old := range st.Conditions {
		if old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			st.Conditions[i] = c
			return
		}
	}
	st.Conditions = append(st.Conditions, c)
}
