//go:build all || e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/testdata/spacelift"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

const controllerNamespace = "spacelift-worker-controller-system"

func poolKind(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "workers.spacelift.io", Version: "v1beta1", Resource: resource}
}

// poolController stands in for the controller of Kubernetes workers: it takes the
// token and the private key of a WorkerPool to the product, or its own API key,
// and only what the product lets in becomes a worker.
type poolController struct {
	clients kubernetes.Interface
	dynamic dynamic.Interface
	product *spacelift.Server
}

// tick looks at every pool once. What has just changed, or is gone, is seen at
// the next.
func (c poolController) tick(ctx context.Context) {
	list, err := c.dynamic.Resource(poolKind("workerpools")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return // the type is not there yet
	}
	for i := range list.Items {
		o := &list.Items[i]
		if o.GetDeletionTimestamp() != nil {
			continue
		}
		size, _, _ := unstructured.NestedInt64(o.Object, "spec", "poolSize")
		id, err := c.register(ctx, o)
		actual := size
		if err != nil {
			actual = 0
		}
		for n := range actual {
			c.worker(ctx, o, fmt.Sprintf("%s-%d", o.GetName(), n), id)
		}
		_, has, _ := unstructured.NestedMap(o.Object, "spec", "token")
		status, _ := json.Marshal(map[string]any{"status": map[string]any{"desiredPoolSize": size, "actualPoolSize": actual, "autoRegistered": !has, "selector": "workers.spacelift.io/not-used=" + id}})
		_, _ = c.dynamic.Resource(poolKind("workerpools")).Namespace(o.GetNamespace()).Patch(ctx, o.GetName(), types.MergePatchType, status, metav1.PatchOptions{}, "status")
		if err != nil {
			c.warn(ctx, o, err) // who sees that it failed sees the numbers, too
		}
	}
}

func (c poolController) register(ctx context.Context, pool *unstructured.Unstructured) (id string, err error) {
	if _, has, _ := unstructured.NestedMap(pool.Object, "spec", "token"); !has {
		s, err := c.clients.CoreV1().Secrets(controllerNamespace).Get(ctx, "spacelift-api-credentials", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(string(s.Data["endpoint"]), "https://") {
			return "", fmt.Errorf("the endpoint %q is no URL", s.Data["endpoint"])
		}
		space, _, _ := unstructured.NestedString(pool.Object, "spec", "space")
		return c.product.Register(string(s.Data["keyId"]), string(s.Data["keySecret"]), pool.GetName(), space)
	}
	var values [2]string
	for i, field := range []string{"token", "privateKey"} {
		name, _, _ := unstructured.NestedString(pool.Object, "spec", field, "secretKeyRef", "name")
		key, _, _ := unstructured.NestedString(pool.Object, "spec", field, "secretKeyRef", "key")
		s, err := c.clients.CoreV1().Secrets(pool.GetNamespace()).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		values[i] = string(s.Data[key])
	}
	return c.product.Join(values[0], values[1])
}

// worker is one that is registered; it goes with its pool.
func (c poolController) worker(ctx context.Context, pool *unstructured.Unstructured, name, id string) {
	w := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "workers.spacelift.io/v1beta1", "kind": "Worker"}}
	w.SetName(name)
	w.SetLabels(map[string]string{"workers.spacelift.io/workerpool": id})
	w.SetAnnotations(map[string]string{"workers.spacelift.io/workerpool-name": pool.GetName()})
	w.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: pool.GetAPIVersion(), Kind: pool.GetKind(), Name: pool.GetName(), UID: pool.GetUID()}})
	r := c.dynamic.Resource(poolKind("workers")).Namespace(pool.GetNamespace())
	_, _ = r.Create(ctx, w, metav1.CreateOptions{}) // it may be there
	_, _ = r.Patch(ctx, name, types.MergePatchType, []byte(`{"status":{"registered":true,"state":"IDLE"}}`), metav1.PatchOptions{}, "status")
}

// warn says of a pool why there are no workers.
func (c poolController) warn(ctx context.Context, pool *unstructured.Unstructured, cause error) {
	at, sum := metav1.NewTime(time.Now()), fnv.New32a()
	_, _ = sum.Write([]byte(cause.Error())) // it never fails
	_, _ = c.clients.CoreV1().Events(pool.GetNamespace()).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", pool.GetName(), sum.Sum32()), Namespace: pool.GetNamespace()},
		InvolvedObject: corev1.ObjectReference{APIVersion: pool.GetAPIVersion(), Kind: pool.GetKind(), Namespace: pool.GetNamespace(), Name: pool.GetName(), UID: pool.GetUID()},
		Type:           corev1.EventTypeWarning, Reason: "RegistrationFailed", Message: cause.Error(), FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}, metav1.CreateOptions{}) // the same is told once
}

// controllerChart is the chart of the controller as far as the checklist knows of
// it, with the names and the shape of the real one: the types are templates of a
// subchart, and that of the pool is as large.
func controllerChart(version, image, tag string) map[string]string {
	return map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: spacelift-workerpool-controller\nversion: " + version + "\nappVersion: v0.0.32\ndependencies: [{name: crds, version: 0.16.0, condition: crds.install}]\n",
		"values.yaml": `crds: {install: true, annotations: {}}
controllerManager:
  namespaces: []
  imagePullSecrets: []
  extraVolumes: []
  manager: {image: {repository: "` + image + `", tag: "` + tag + `"}, extraVolumeMounts: []}
`,
		"templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-controller-manager}
spec:
  selector: {matchLabels: {control-plane: controller-manager}}
  template:
    metadata: {labels: {control-plane: controller-manager}}
    spec:
      terminationGracePeriodSeconds: 1
      {{- with .Values.controllerManager.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: manager
          args:
            - serve
            {{- range .Values.controllerManager.namespaces }}
            - --namespaces={{ . }}
            {{- end }}
          image: "{{ .Values.controllerManager.manager.image.repository }}:{{ .Values.controllerManager.manager.image.tag }}"
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
          {{- with .Values.controllerManager.manager.extraVolumeMounts }}
          volumeMounts: {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .Values.controllerManager.extraVolumes }}
      volumes: {{- toYaml . | nindent 8 }}
      {{- end }}
`,
		"charts/crds/Chart.yaml":                    "apiVersion: v2\nname: crds\nversion: 0.16.0\n",
		"charts/crds/values.yaml":                   "annotations: {}\n",
		"charts/crds/templates/workerpool-crd.yaml": poolType("WorkerPool", "workerpools", 770_000),
		"charts/crds/templates/worker-crd.yaml":     poolType("Worker", "workers", 0),
	}
}

// poolType is the template of a type with a description of a size.
func poolType(kind, plural string, size int) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  annotations:
    {{- with .Values.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    controller-gen.kubebuilder.io/version: v0.18.0
  name: ` + plural + `.workers.spacelift.io
spec:
  group: workers.spacelift.io
  scope: Namespaced
  names: {kind: ` + kind + `, plural: ` + plural + `, singular: ` + strings.ToLower(kind) + `, listKind: ` + kind + `List}
  versions:
    - name: v1beta1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
          description: a stand-in` + strings.Repeat(" of many words", size/14) + `
`
}
