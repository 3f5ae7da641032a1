package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Job is a program that runs once in the cluster, with content mounted from a
// Secret of its own.
type Job struct {
	Namespace      string
	Prefix         string // of the names of Job and Secret
	Image          string
	PullSecret     string // "" leaves it to nodes and service account
	ServiceAccount string // "" is the namespace's default
	Args           []string
	Mount          string            // where Content is
	Content        map[string][]byte // may be secret
	Timeout        time.Duration     // for all of it, pulling included
	MaxLog         int64             // bytes of log that are read
}

// JobError says why a Job's pod did not run to its end.
type JobError struct{ Namespace, Reason string }

func (e *JobError) Error() string {
	return fmt.Sprintf("run a pod in namespace %s: %s", e.Namespace, e.Reason)
}

const (
	// jobPoll is how often a Job is looked at: it lives for seconds.
	jobPoll = 500 * time.Millisecond
	// jobRemain is how long a Job stays that nobody removed.
	jobRemain = 60
	// jobRemoval bounds the removal, which also follows an interruption.
	jobRemoval = 20 * time.Second
	// pullGrace is how long an image may fail to be pulled: the first try can
	// meet a registry that starts.
	pullGrace = 20 * time.Second
)

// Run runs a Job and returns its log, whether the program ended well or not. A
// pod that cannot start, or that does not end in time, is a *JobError. Nothing
// of the Job stays, however Run ends; if this process dies, the cluster removes
// it once its time is over: so the Job is there before its content, which the pod
// waits for.
func (c *Client) Run(ctx context.Context, j Job) (log []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	jobs := c.clientset.BatchV1().Jobs(j.Namespace)
	name := j.Prefix + "-" + strings.ToLower(rand.Text()[:10])
	job, err := jobs.Create(ctx, j.job(name), metav1.CreateOptions{FieldManager: Manager})
	if err != nil {
		return nil, fmt.Errorf("make a Job in namespace %s: %w", j.Namespace, c.Explain(err))
	}
	defer func() { err = errors.Join(err, c.remove(ctx, job)) }()
	if _, err := c.clientset.CoreV1().Secrets(j.Namespace).Create(ctx, j.secret(job), metav1.CreateOptions{FieldManager: Manager}); err != nil {
		return nil, fmt.Errorf("make Secret %s/%s: %w", j.Namespace, name, c.Explain(err))
	}
	pod, err := c.ended(ctx, job)
	if err != nil {
		return nil, err
	}
	return c.output(ctx, j.Namespace, pod, j.MaxLog)
}

// remove removes a Job, and with it what belongs to it, also when ctx is over.
func (c *Client) remove(ctx context.Context, job *batchv1.Job) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobRemoval)
	defer cancel()
	policy := metav1.DeletePropagationBackground
	err := c.clientset.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove Job %s/%s: %w", job.Namespace, job.Name, c.Explain(err))
}

// ended waits for the Job's pod to end.
func (c *Client) ended(ctx context.Context, job *batchv1.Job) (string, error) {
	tick := time.NewTicker(jobPoll)
	defer tick.Stop()
	selector := "batch.kubernetes.io/job-name=" + job.Name
	var last string
	var failing time.Time
	for {
		pods, err := c.clientset.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: 2})
		if err != nil && !over(ctx) {
			return "", fmt.Errorf("look at Job %s/%s: %w", job.Namespace, job.Name, c.Explain(err))
		}
		if err == nil {
			for i := range pods.Items {
				p := &pods.Items[i]
				if why := notStarted(p); why != "" {
					return "", &JobError{job.Namespace, why}
				}
				if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed && ran(p) {
					return p.Name, nil
				}
			}
			why, class, err := c.hindrance(ctx, job.Namespace, selector)
			if err == nil {
				last = why
			}
			switch {
			case class != ClassPull && class != ClassConfig:
				failing = time.Time{}
			case failing.IsZero():
				failing = time.Now()
			case time.Since(failing) > pullGrace:
				return "", &JobError{job.Namespace, last}
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return "", ctx.Err()
			}
			if last == "" {
				last = "it did not end in time"
			}
			return "", &JobError{job.Namespace, last}
		case <-tick.C:
		}
	}
}

// over says whether a context has ended, or its deadline has passed and it is
// about to: a client's rate limiter sees that first.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// hindrance is what keeps the Job's pod from running.
func (c *Client) hindrance(ctx context.Context, namespace, selector string) (string, Class, error) {
	reasons, err := c.Why(ctx, namespace, selector)
	if err != nil || len(reasons) == 0 {
		return "", "", err
	}
	r := reasons[0]
	if r.Class == ClassUnready { // it runs: a pod of a Job is never ready
		return "", r.Class, nil
	}
	text := r.String()
	if len(r.Events) > 0 && r.Message == "" {
		text += ": " + r.Events[len(r.Events)-1]
	}
	return text, r.Class, nil
}

// notStarted says why the program of a pod could not be started.
func notStarted(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		if e := s.State.Terminated; e != nil && (e.Reason == "StartError" || e.Reason == "ContainerCannotRun") {
			return Clean(e.Reason + ": " + e.Message)
		}
	}
	return ""
}

// ran reports whether a pod's container was started at all.
func ran(p *corev1.Pod) bool {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Terminated != nil {
			return true
		}
	}
	return false
}

func (c *Client) output(ctx context.Context, namespace, pod string, limit int64) ([]byte, error) {
	r, err := c.clientset.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the log of pod %s/%s: %w", namespace, pod, c.Explain(err))
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit))
	if err != nil {
		return nil, fmt.Errorf("read the log of pod %s/%s: %w", namespace, pod, c.Explain(err))
	}
	return data, nil
}

// job is the Job. Its pod has no rights, in the cluster or on the node.
func (j Job) job(name string) *batchv1.Job {
	yes, no, user := true, false, int64(65532)
	spec := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: j.ServiceAccount, AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "airlock", Image: j.Image, Args: j.Args,
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
			},
			VolumeMounts: []corev1.VolumeMount{{Name: "content", MountPath: j.Mount, ReadOnly: true}},
		}},
		Volumes: []corev1.Volume{{Name: "content", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}},
	}
	if j.PullSecret != "" {
		spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: j.PullSecret}}
	}
	never, remain, deadline := int32(0), int32(jobRemain), int64(j.Timeout/time.Second)+1
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: j.Namespace, Labels: j.labels()},
		Spec: batchv1.JobSpec{
			BackoffLimit: &never, TTLSecondsAfterFinished: &remain, ActiveDeadlineSeconds: &deadline,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: j.labels()}, Spec: spec},
		},
	}
}

// secret is the content, which the cluster removes together with the Job.
func (j Job) secret(job *batchv1.Job) *corev1.Secret {
	yes := true
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: job.Name, Namespace: job.Namespace, Labels: j.labels(),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID, BlockOwnerDeletion: &yes}},
		},
		Immutable: &yes, Data: j.Content,
	}
}

func (j Job) labels() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": Manager, "app.kubernetes.io/name": j.Prefix}
}
