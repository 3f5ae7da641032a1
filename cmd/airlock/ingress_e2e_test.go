//go:build e2e

package main

import (
	"context"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/probe/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ingressAddress is what the stand-in for a load balancer gives out: of a network
// for benchmarks (RFC 2544), which nobody has.
const ingressAddress = "198.18.0.10"

// balance stands in for what hands out addresses to Services of the type
// LoadBalancer. kube-proxy does the rest.
func (e *box) balance(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", "route", "replace", ingressAddress+"/32", "dev", "node0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tend(t, 500*time.Millisecond, func(ctx context.Context) {
		list, err := e.clients.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return // it is over, or asked again at the next tick
		}
		for i := range list.Items {
			s := &list.Items[i]
			if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.LoadBalancerIP != ingressAddress || len(s.Status.LoadBalancer.Ingress) > 0 {
				continue
			}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: s.Spec.LoadBalancerIP}}
			_, _ = e.clients.CoreV1().Services(s.Namespace).UpdateStatus(ctx, s, metav1.UpdateOptions{}) // or at the next tick
		}
	})
}

// ingress asks the address of the controller for the server, and for somebody
// else. The controller is a stand-in that does what an Ingress says.
func (e *box) ingress(t *testing.T, f *fullRun) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	at := "http://" + ingressAddress + "/"
	if said, err := hello(client, at, netHost); err != nil || !strings.HasPrefix(said, "hello from spacelift-server-") {
		t.Errorf("for %s: %q, %v", netHost, said, err)
	}
	if said, err := hello(client, at, "somebody-else.example"); err != nil || !strings.Contains(said, "stand-in: no Ingress for somebody-else.example") {
		t.Errorf("for somebody else: %q, %v", said, err)
	}
	// The probe asks too: without a controller behind the address nobody answers.
	with := map[string]any{"kubeconfig": f.cluster, "class": "enclave", "host": netHost, "address": ingressAddress, "request": map[string]any{}}
	if res, err := (kube.Ingress{}).Run(t.Context(), install.Input{With: with}); err != nil || len(res.Findings) > 0 {
		t.Errorf("the probe: %+v, %v", res.Findings, err)
	}
	with["request"] = map[string]any{"http": 81, "https": 82}
	if res, err := (kube.Ingress{}).Run(t.Context(), install.Input{With: with}); err != nil || len(res.Findings) != 1 || res.Findings[0].Code != "ING-07" {
		t.Errorf("the probe at ports that nobody serves: %+v, %v", res.Findings, err)
	}
}

// e2eIngress is a chart with the names of ingress-nginx, and a stand-in for it.
// Nothing is sent to its webhook: no namespace has the label.
const e2eIngress = `apiVersion: v1
kind: ServiceAccount
metadata: {name: ingress-nginx}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: ingress-stand-in}
rules:
  - {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [list]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [patch]}
  - {apiGroups: [""], resources: [services], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ingress-stand-in}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ingress-stand-in}
subjects: [{kind: ServiceAccount, name: ingress-nginx, namespace: {{ .Release.Namespace }}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress-nginx-controller, labels: {app.kubernetes.io/name: ingress-nginx}}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: ingress-nginx}}
  template:
    metadata: {labels: {app.kubernetes.io/name: ingress-nginx}}
    spec:
      serviceAccountName: ingress-nginx
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: 1
      containers:
        - name: controller
          image: {{ .Values.image | quote }}
          args: [ingress, {{ .Values.controller.ingressClassResource.name | quote }}]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: ingress-nginx-controller, labels: {app.kubernetes.io/name: ingress-nginx}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: {{ .Values.controller.service.externalTrafficPolicy }}
  loadBalancerIP: {{ .Values.controller.service.loadBalancerIP }}
  selector: {app.kubernetes.io/name: ingress-nginx}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: {{ .Values.controller.ingressClassResource.name }}}
spec: {controller: {{ .Values.controller.ingressClassResource.controllerValue }}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ingress-nginx-admission, labels: {app.kubernetes.io/name: ingress-nginx}}
webhooks:
  - name: validate.stand-in.example.test
    admissionReviewVersions: [v1]
    sideEffects: None
    clientConfig: {caBundle: {{ .Values.ca }}, service: {name: ingress-nginx-controller, namespace: {{ .Release.Namespace }}}}
    namespaceSelector: {matchLabels: {stand-in: never}}
    rules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE], resources: [ingresses]}]
`
