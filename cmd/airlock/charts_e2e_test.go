//go:build e2e

package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/testdata/pki"
)

// e2eBundle is the bundle of a release whose images run.
func e2eBundle(t *testing.T, version, chart string, number int64) opened {
	t.Helper()
	app, err := os.ReadFile(os.Getenv("BOX_APP"))
	if err != nil {
		t.Fatal(err)
	}
	templates := e2eChart
	if version != fullVersion {
		templates += "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: spacelift-news}\n"
	}
	ca, err := os.ReadFile(pki.New(t, "stand-in").File(t))
	if err != nil {
		t.Fatal(err)
	}
	return release{
		version: version, number: number,
		program: app, images: []string{runnerImage, ansibleImage}, tool: os.Getenv("AIRLOCK_E2E_TOOL"),
		charts: map[string]string{"spacelift": "spacelift", "spacelift-workerpool-controller": "controller", "ingress-nginx": "ingress"},
		files: map[string]string{
			"spacelift/Chart.yaml":                 "apiVersion: v2\nname: spacelift\nversion: " + chart + "\nappVersion: " + version + "\n",
			"spacelift/values.yaml":                strings.ReplaceAll(e2eValues, fullVersion, version),
			"spacelift/templates/all.yaml":         templates,
			"controller/Chart.yaml":                "apiVersion: v2\nname: spacelift-workerpool-controller\nversion: 0.62." + fmt.Sprint(number) + "\n",
			"controller/values.yaml":               "controllerManager: {namespaces: [], image: \"spacelift-launcher:" + version + "\"}\ncrds: {install: true}\n",
			"controller/templates/controller.yaml": e2eController + e2ePullSecret,
			"controller/crds/workers.yaml":         e2eTypes,
			"ingress/Chart.yaml":                   "apiVersion: v2\nname: ingress-nginx\nversion: 0.0." + fmt.Sprint(number) + "\ndescription: a stand-in for a controller\n",
			"ingress/values.yaml":                  "image: \"spacelift-launcher:" + version + "\"\nca: " + base64.StdEncoding.EncodeToString(ca) + "\ncontroller: {service: {externalTrafficPolicy: Cluster, loadBalancerIP: \"\"}}\n",
			"ingress/templates/all.yaml":           e2eIngress + e2ePullSecret,
		},
	}.bundle(t)
}

const e2eValues = `shared: {serverHostname: "", image: "spacelift-backend:v4.3.0", secretRef: ""}
server: {secretRef: "", ready: /readiness, fail: false, note: ""}
drain: {secretRef: "", image: ""}
ingressV6: {enabled: true}
ingress: {ingressClassName: "", annotations: {}}
`

// e2eChart is as much of Spacelift's chart as the checklist knows of it.
const e2eChart = `apiVersion: v1
kind: ServiceAccount
metadata: {name: spacelift-backend}
imagePullSecrets: [{name: enclave-registry}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-server}
spec:
  replicas: 2
  selector: {matchLabels: {app: spacelift-server}}
  template:
    metadata: {labels: {app: spacelift-server}, annotations: {note: {{ .Values.server.note | quote }}}}
    spec:
      serviceAccountName: spacelift-backend
      terminationGracePeriodSeconds: 1
      containers:
        - name: server
          image: {{ .Values.shared.image | quote }}
          {{- if .Values.server.fail }}
          args: [fail, the database is not there]
          {{- end }}
          env: [{name: SERVER_DOMAIN, value: {{ .Values.shared.serverHostname | quote }}}]
          envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}, {secretRef: {name: {{ .Values.server.secretRef }}}}]
          readinessProbe: {httpGet: {path: {{ .Values.server.ready }}, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-drain}
spec:
  replicas: 2
  selector: {matchLabels: {app: spacelift-drain}}
  template:
    metadata: {labels: {app: spacelift-drain}}
    spec:
      serviceAccountName: spacelift-backend
      terminationGracePeriodSeconds: 1
      containers:
        - name: drain
          image: {{ .Values.drain.image | default .Values.shared.image | quote }}
          envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}, {secretRef: {name: {{ .Values.drain.secretRef }}}}]
          startupProbe: {httpGet: {path: /startup, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-scheduler}
spec:
  selector: {matchLabels: {app: spacelift-scheduler}}
  template:
    metadata: {labels: {app: spacelift-scheduler}}
    spec:
      serviceAccountName: spacelift-backend
      terminationGracePeriodSeconds: 1
      containers:
        - name: scheduler
          image: {{ .Values.shared.image | quote }}
          envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}]
          startupProbe: {httpGet: {path: /startup, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: spacelift-mqtt}
spec: {selector: {app: spacelift-server}, ports: [{port: 1984, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: spacelift-server}
spec: {type: NodePort, selector: {app: spacelift-server}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: server-v4
  annotations: {{ .Values.ingress.annotations | toJson }}
spec:
  ingressClassName: {{ .Values.ingress.ingressClassName }}
  rules:
    - host: {{ .Values.shared.serverHostname }}
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: spacelift-server, port: {number: 80}}}}]}
`

const e2eController = `apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-workerpool-controller-controller-manager}
spec:
  selector: {matchLabels: {app: controller}}
  template:
    metadata: {labels: {app: controller}}
    spec:
      terminationGracePeriodSeconds: 1
      imagePullSecrets: [{name: enclave-registry}]
      containers:
        - name: manager
          image: {{ .Values.controllerManager.image | quote }}
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`

const e2ePullSecret = `---
apiVersion: v1
kind: Secret
metadata: {name: enclave-registry}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths":{"` + boxRegistry + `":{"username":"puller","password":"` + pullPassword + `"}}}'}
`

var e2eTypes = e2eType("WorkerPool", "workerpools") + "---\n" + e2eType("Worker", "workers")

func e2eType(kind, plural string) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ` + plural + `.workers.spacelift.io}
spec:
  group: workers.spacelift.io
  scope: Namespaced
  names: {kind: ` + kind + `, plural: ` + plural + `, singular: ` + strings.ToLower(kind) + `, listKind: ` + kind + `List}
  versions:
    - name: v1beta1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`
}
