package kube

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// jobs is as much of a cluster as a Job needs: pod says what its pod is like
// once the Job was started.
type jobs struct {
	mu      sync.Mutex
	job     *batchv1.Job
	secret  *corev1.Secret
	removed bool
	pod     corev1.PodStatus
	log     string
	refuse  bool // the Secret
}

func (s *jobs) register(t *testing.T, mux *http.ServeMux) {
	t.Helper()
	take := func(f func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			f(w, r)
		}
	}
	mux.HandleFunc("POST /apis/batch/v1/namespaces/n/jobs", take(func(w http.ResponseWriter, r *http.Request) {
		s.job = sent[batchv1.Job](t, r)
		s.job.UID = "job-uid"
		answer(w, http.StatusCreated, s.job)
	}))
	mux.HandleFunc("POST /api/v1/namespaces/n/secrets", take(func(w http.ResponseWriter, r *http.Request) {
		if s.refuse {
			answer(w, 403, failure(403, metav1.StatusReasonForbidden, "no secrets"))
			return
		}
		s.secret = sent[corev1.Secret](t, r)
		answer(w, http.StatusCreated, s.secret)
	}))
	mux.HandleFunc("DELETE /apis/batch/v1/namespaces/n/jobs/{name}", take(func(w http.ResponseWriter, r *http.Request) {
		s.removed = r.PathValue("name") == s.job.Name
		answer(w, http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
	}))
	mux.HandleFunc("GET /api/v1/namespaces/n/pods", take(func(w http.ResponseWriter, _ *http.Request) {
		list := corev1.PodList{}
		if s.secret != nil {
			list.Items = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "pod"}, Status: s.pod}}
		}
		answer(w, http.StatusOK, list)
	}))
	mux.HandleFunc("GET /api/v1/namespaces/n/events", take(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, corev1.EventList{}) }))
	mux.HandleFunc("GET /api/v1/namespaces/n/pods/pod/log", take(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s.log)) })) // a client that left is no concern of ours
}

// sent decodes an object that a client sent, in whichever encoding.
func sent[T any](t *testing.T, r *http.Request) *T {
	t.Helper()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		t.Error(err)
	}
	out, ok := any(obj).(*T)
	if !ok {
		t.Errorf("got %T", obj)
		return new(T)
	}
	return out
}

func theJob() Job {
	return Job{
		Namespace: "n", Prefix: "airlock-probe", Image: "r.test/airlock:v1", PullSecret: "pull", Args: []string{"probe", "/in"}, Mount: "/in",
		Content: map[string][]byte{"task.json": []byte("hush")}, Timeout: time.Minute, MaxLog: 10,
	}
}

func TestJob(t *testing.T) {
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		s := &jobs{log: "0123456789 and more", pod: corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}}}}
		mux := http.NewServeMux()
		s.register(t, mux)
		log, err := open(t, mux).Run(t.Context(), theJob())
		if err != nil || string(log) != "0123456789" {
			t.Errorf("%s: log %q, %v", phase, log, err)
		}
		if !s.removed || s.secret.OwnerReferences[0].UID != s.job.UID || string(s.secret.Data["task.json"]) != "hush" {
			t.Errorf("%s: removed %v, secret %+v", phase, s.removed, s.secret)
		}
		raw, err := json.Marshal(s.job)
		if err != nil {
			t.Fatal(err)
		}
		pod := s.job.Spec.Template.Spec
		if strings.Contains(string(raw), "hush") || *pod.AutomountServiceAccountToken || !*pod.SecurityContext.RunAsNonRoot || !*pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("job %s", raw)
		}
		if s.job.Spec.Suspend != nil || *s.job.Spec.BackoffLimit != 0 || *s.job.Spec.TTLSecondsAfterFinished == 0 || *s.job.Spec.ActiveDeadlineSeconds < 60 || pod.ImagePullSecrets[0].Name != "pull" {
			t.Errorf("job %s", raw)
		}
	}
}

func TestJobCannotRun(t *testing.T) {
	waiting := corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "airlock", Image: "r.test/airlock:v1",
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "not found"}},
	}}}
	broken := corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "airlock", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "StartError", Message: "exec format error", ExitCode: 128}},
	}}}
	evicted := corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "no memory"}
	running := corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "airlock", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
	for name, tt := range map[string]struct {
		pod  corev1.PodStatus
		want string
	}{
		"no image":   {waiting, "not found"},
		"no program": {broken, "exec format error"},
		"evicted":    {evicted, "in time"},
		"never ends": {running, "in time"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &jobs{pod: tt.pod}
			mux := http.NewServeMux()
			s.register(t, mux)
			c, j := open(t, mux), theJob()
			j.Timeout = 1500 * time.Millisecond
			_, err := c.Run(t.Context(), j)
			if e, ok := errors.AsType[*JobError](err); !ok || !strings.Contains(e.Reason, tt.want) {
				t.Errorf("got %v", err)
			}
			if !s.removed {
				t.Error("the Job stays")
			}
		})
	}
	s := &jobs{refuse: true}
	mux := http.NewServeMux()
	s.register(t, mux)
	if _, err := open(t, mux).Run(t.Context(), theJob()); !is[*ForbiddenError](err) || !s.removed {
		t.Errorf("without the right to make Secrets: %v, removed %v", err, s.removed)
	}
}
