package helm

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install/internal/kube"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestSessionEnds: Helm knows no context. When that of a session ends, nothing
// that Helm still does reaches the cluster.
func TestSessionEnds(t *testing.T) {
	s := kubetest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	session, err := open(ctx, kube.Config{Kubeconfig: s.Kubeconfig}, "n")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	s.Handle("GET /api/v1/namespaces/n/secrets", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		kubetest.Answer(w, 200, map[string]any{"kind": "SecretList", "apiVersion": "v1", "metadata": map[string]any{}, "items": []any{}})
	})
	if _, err := session.history("prod"); err != nil || asked != 1 {
		t.Errorf("%d requests, %v", asked, err)
	}
	cancel()
	if _, err := session.history("prod"); err == nil || asked != 1 {
		t.Errorf("%d requests, %v", asked, err)
	}
}

// TestRecordsOfOthers: what only looks like a revision of Helm is told of, not left
// out as Helm does, which would install over what is there.
func TestRecordsOfOthers(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
		"name": "sh.helm.release.v1.prod.v1", "namespace": "n", "labels": map[string]any{"owner": "helm", "name": "prod", "version": "1", "status": "deployed"},
	}, "data": map[string]any{"release": "bm90IGEgcmVsZWFzZQ=="}})
	session, err := open(t.Context(), kube.Config{Kubeconfig: s.Kubeconfig}, "n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.history("prod"); err == nil || !strings.Contains(err.Error(), "read Secret n/sh.helm.release.v1.prod.v1: ") {
		t.Error(err)
	}
}

// TestLiveNamespace: nothing is made in a namespace that is on its way out.
func TestLiveNamespace(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "there"}},
		map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "going", "deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": []any{"example.org/held"}}})
	c, err := kube.Open(t.Context(), kube.Config{Kubeconfig: s.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	l := &live{Client: c, release: "there"}
	for name, want := range map[string]bool{"there": true, "none": false} {
		if there, err := l.namespace(t.Context(), name, false); err != nil || there != want {
			t.Errorf("%s: %v, %v", name, there, err)
		}
	}
	_, err = l.namespace(t.Context(), "going", true)
	if e, ok := errors.AsType[*kube.TerminatingError](err); !ok || len(e.Holds) != 1 {
		t.Error(err)
	}
}

// TestRefusal: what a trial says of a Secret quotes no value, and what may be
// otherwise by the time of the real change is no refusal.
func TestRefusal(t *testing.T) {
	s := kubetest.Start(t)
	c, err := kube.Open(t.Context(), kube.Config{Kubeconfig: s.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	l := &live{Client: c, release: "n"}
	status := func(code int32, reason metav1.StatusReason, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
	}
	const quoted = `Invalid value: "geheim"`
	for name, x := range map[string]struct {
		kind string
		err  error
		says string // "" is no refusal
	}{
		"invalid":                     {"ConfigMap", status(422, metav1.StatusReasonInvalid, quoted), quoted},
		"invalid Secret":              {"Secret", status(422, metav1.StatusReasonInvalid, quoted), "the server refuses it"},
		"malformed Secret":            {"Secret", status(400, metav1.StatusReasonBadRequest, quoted), "the server refuses it"},
		"malformed":                   {"ConfigMap", status(400, metav1.StatusReasonBadRequest, "unknown field"), "unknown field"},
		"a webhook knows no trial":    {"ConfigMap", status(400, metav1.StatusReasonBadRequest, "admission webhook x does not support dry run"), ""},
		"a webhook does not answer":   {"ConfigMap", status(500, metav1.StatusReasonInternalError, "failed calling webhook"), ""},
		"forbidden":                   {"ConfigMap", status(403, metav1.StatusReasonForbidden, `configmaps "o" is forbidden: User "u" cannot create resource "configmaps" in API group "" in the namespace "n"`), "user u may not create configmaps"},
		"a policy":                    {"ConfigMap", status(403, metav1.StatusReasonForbidden, quoted), quoted},
		"a policy and a Secret":       {"Secret", status(403, metav1.StatusReasonForbidden, quoted), "a policy of the cluster refuses it"},
		"a quota":                     {"Secret", status(403, metav1.StatusReasonForbidden, "exceeded quota: q, limited: secrets=1"), "exceeded quota: q"},
		"a pod without its account":   {"Pod", status(403, metav1.StatusReasonForbidden, "service account not found"), ""},
		"the namespace comes with it": {"ConfigMap", nil, ""},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": x.kind, "metadata": map[string]any{"name": "o", "namespace": "n"}}}
		err := l.refusal(t.Context(), o, x.err)
		if x.says == "" && err != nil || x.says != "" && (err == nil || !strings.Contains(err.Error(), x.says)) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && x.kind == "Secret" && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStates: numbers that are those of before a change do not make a workload
// ready.
func TestStates(t *testing.T) {
	workload := func(seen int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"generation": int64(2)}, "spec": map[string]any{"replicas": int64(2)}, "status": map[string]any{
			"observedGeneration": seen, "replicas": int64(2), "updatedReplicas": int64(2), "availableReplicas": int64(2), "readyReplicas": int64(2),
			"desiredNumberScheduled": int64(2), "numberReady": int64(2), "updatedNumberScheduled": int64(2),
		}}}
	}
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		if w, _, ready := states[kind](workload(2)); !ready {
			t.Errorf("%s: %+v", kind, w)
		}
		if w, _, ready := states[kind](workload(1)); ready || w.Ready != 0 || w.Reason != "no controller has seen the change" {
			t.Errorf("%s: ready %v, %+v", kind, ready, w)
		}
	}
}
