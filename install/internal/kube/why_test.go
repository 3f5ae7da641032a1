package kube

import (
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhy(t *testing.T) {
	pods := []corev1.Pod{
		named("b-crash", corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Image: "x", RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 7, Reason: "OOMKilled", Message: "heap\nfull"}},
		}}}),
		named("a-pull", corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{
			Name: "init", Image: "reg/x:1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "Back-off"}},
		}}}),
		named("c-config", corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: "couldn't find key A in Secret n/s"}},
		}}}),
		named("d-pending", corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available: insufficient cpu"}}}),
		named("e-unready", corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [app]"}}}),
		named("f-ready", corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}),
		named("g-done", corev1.PodStatus{Phase: corev1.PodSucceeded}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/n/pods", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("labelSelector") != "app=x" {
			t.Errorf("asked %s", r.URL)
		}
		answer(w, 200, corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: pods})
	})
	mux.HandleFunc("GET /api/v1/namespaces/n/pods/{name}/log", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("previous") == "true" {
			_, _ = w.Write([]byte("one\x1b[31m\ntwo\n"))
		}
	})
	mux.HandleFunc("GET /api/v1/namespaces/n/events", events(map[string]string{"a-pull": `Failed to pull image "reg/x:1": not found`}))
	c := open(t, mux)
	got, err := c.Why(t.Context(), "n", "app=x")
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		class Class
		says  string
	}{
		{ClassPull, `pod a-pull container init: ImagePullBackOff reg/x:1: Failed: Failed to pull image "reg/x:1": not found`},
		{ClassCrash, "pod b-crash container app: CrashLoopBackOff: it ended with OOMKilled, status 7: heap full"},
		{ClassConfig, "couldn't find key A"},
		{ClassPending, "insufficient cpu"},
		{ClassUnready, "containers with unready status"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d reasons: %+v", len(got), got)
	}
	for i, w := range want {
		if got[i].Class != w.class || !strings.Contains(got[i].String(), w.says) {
			t.Errorf("%d: %s %s, want %s %s", i, got[i].Class, got[i], w.class, w.says)
		}
	}
	if r := got[1]; r.Restarts != 4 || r.Exit != 7 || strings.Join(r.Log, "|") != "one[31m|two" {
		t.Errorf("%+v", r)
	}
}

// TestBlocked: no pod is made, and the owner's events say why.
func TestBlocked(t *testing.T) {
	one := int32(1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/n/pods", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}})
	})
	mux.HandleFunc("GET /apis/apps/v1/namespaces/n/replicasets", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, appsv1.ReplicaSetList{TypeMeta: metav1.TypeMeta{Kind: "ReplicaSetList", APIVersion: "apps/v1"}, Items: []appsv1.ReplicaSet{{ObjectMeta: metav1.ObjectMeta{Name: "web-1"}, Spec: appsv1.ReplicaSetSpec{Replicas: &one}}}})
	})
	mux.HandleFunc("GET /apis/batch/v1/namespaces/n/jobs", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, batchv1.JobList{TypeMeta: metav1.TypeMeta{Kind: "JobList", APIVersion: "batch/v1"}})
	})
	mux.HandleFunc("GET /api/v1/namespaces/n/events", events(map[string]string{"web-1": `pods "web-1-x" is forbidden: exceeded quota: small`}))
	got, err := open(t, mux).Why(t.Context(), "n", "app=x")
	if err != nil || len(got) != 1 || got[0].Class != ClassBlocked || !strings.Contains(got[0].String(), "exceeded quota") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestBlockedBesides: pods that are ready are no reason; who is to make more of
// them says why there are none. Who has all of its own says nothing.
func TestBlockedBesides(t *testing.T) {
	two := int32(2)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/n/pods", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{
			named("web-1-x", corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}),
		}})
	})
	set := func(name string, have int32) appsv1.ReplicaSet {
		return appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.ReplicaSetSpec{Replicas: &two}, Status: appsv1.ReplicaSetStatus{Replicas: have}}
	}
	mux.HandleFunc("GET /apis/apps/v1/namespaces/n/replicasets", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, appsv1.ReplicaSetList{TypeMeta: metav1.TypeMeta{Kind: "ReplicaSetList", APIVersion: "apps/v1"}, Items: []appsv1.ReplicaSet{set("old", 2), set("new", 1)}})
	})
	mux.HandleFunc("GET /api/v1/namespaces/n/events", events(map[string]string{"old": "long ago", "new": "exceeded quota: small"}))
	got, err := open(t, mux).Why(t.Context(), "n", "app=x")
	if err != nil || len(got) != 1 || got[0].Class != ClassBlocked || got[0].Pod != "new" || got[0].Message != "exceeded quota: small" {
		t.Errorf("%+v, %v", got, err)
	}
}

func named(name string, s corev1.PodStatus) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"}, Status: s}
}

func events(by map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		list := corev1.EventList{TypeMeta: metav1.TypeMeta{Kind: "EventList", APIVersion: "v1"}}
		for name, message := range by {
			if strings.Contains(r.URL.Query().Get("fieldSelector"), "involvedObject.name="+name) {
				list.Items = append(list.Items, corev1.Event{Reason: "Failed", Message: message, Type: corev1.EventTypeWarning})
			}
		}
		answer(w, 200, list)
	}
}
