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

// e2eRelease is a release whose images run.
func e2eRelease(t *testing.T, version, chart string, number int64, program []byte) release {
	t.Helper()
	templates := e2eChart
	if version != fullVersion {
		templates += "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: spacelift-news}\n"
	}
	ca, err := os.ReadFile(pki.New(t, "stand-in").File(t))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"spacelift/Chart.yaml":         "apiVersion: v2\nname: spacelift\nversion: " + chart + "\nappVersion: " + version + "\n",
		"spacelift/values.yaml":        strings.ReplaceAll(e2eValues, fullVersion, version),
		"spacelift/templates/all.yaml": templates,
		"ingress/Chart.yaml":           "apiVersion: v2\nname: ingress-nginx\nversion: 0.0." + fmt.Sprint(number) + "\ndescription: a stand-in for a controller\n",
		"ingress/values.yaml":          "image: \"spacelift-launcher:" + version + "\"\nca: " + base64.StdEncoding.EncodeToString(ca) + "\nimagePullSecrets: []\ncontroller: {ingressClass: nginx, ingressClassResource: {name: nginx, controllerValue: k8s.io/ingress-nginx}, service: {externalTrafficPolicy: Cluster, loadBalancerIP: \"\"}}\n",
		"ingress/templates/all.yaml":   e2eIngress,
	}
	for name, text := range controllerChart("0.62."+fmt.Sprint(number), "spacelift-launcher", version) {
		files["controller/"+name] = text
	}
	return release{version: version, number: number, program: program, files: files}
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
