package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/source/helm"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/fixture"
)

// standChart is a chart of a few files, carried under a name.
func standChart(t *testing.T, name string, files map[string]string) bundle.Source {
	t.Helper()
	dir := t.TempDir()
	for file, text := range files {
		path := filepath.Join(dir, "chart", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return helm.New(nil, fixture.Spool(t), dir, manifests.Chart{Name: name, Path: "chart"}, fixture.Epoch, nil)
}

// backendChart is the Spacelift chart as far as the checklist looks at it: the
// names of its objects, which Secrets its workloads read, what the kubelet asks
// them, how it tells from the image whether the scheduler is a workload of its
// own, and which values lead outside.
func backendChart(t *testing.T, more map[string]string) bundle.Source {
	t.Helper()
	files := map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: spacelift-self-hosted\nversion: 0.62.0\n",
		"values.yaml": `shared: {serverHostname: "", image: "", secretRef: ""}
server: {secretRef: "", podAnnotations: {}, readinessProbe: {httpGet: {path: /readiness, port: instrumentation}}}
drain: {secretRef: "", podAnnotations: {}, startupProbe: {httpGet: {path: /startup, port: instrumentation}}}
scheduler: {podAnnotations: {}, startupProbe: {httpGet: {path: /startup, port: instrumentation}}}
ingress: {enabled: true, ingressClassName: "", annotations: {}}
ingressV6: {enabled: true, annotations: {}}
mqttService: {type: ClusterIP, app: server, annotations: {}}
cloudSqlProxy: {enabled: false, image: "", dbConnectionName: ""}
proxy: ""
`,
		"values.schema.json":       `{"type":"object","properties":{"shared":{},"server":{},"drain":{},"scheduler":{},"ingress":{},"ingressV6":{},"mqttService":{},"cloudSqlProxy":{},"proxy":{"type":"string"}},"additionalProperties":false}`,
		"templates/_helpers.tpl":   backendHelpers,
		"templates/server.yaml":    backendWorkload("server", `, {secretRef: {name: {{ .Values.server.secretRef }}}}`, "readinessProbe"),
		"templates/drain.yaml":     backendWorkload("drain", `, {secretRef: {name: {{ .Values.drain.secretRef }}}}`, "startupProbe"),
		"templates/scheduler.yaml": "{{ if include \"standalone\" . }}\n" + backendWorkload("scheduler", "", "startupProbe") + "{{ end }}\n",
		"templates/proxy.yaml":     "{{ if .Values.proxy }}apiVersion: v1\nkind: Pod\nmetadata: {name: proxy}\nspec: {containers: [{name: proxy, image: {{ .Values.proxy }}}]}\n{{ end }}",
		"templates/services.yaml": `apiVersion: v1
kind: Service
metadata: {name: spacelift-server}
spec: {selector: {app: server}, ports: [{name: server, port: 80, targetPort: server}]}
---
apiVersion: v1
kind: Service
metadata: {name: spacelift-mqtt, annotations: {{ .Values.mqttService.annotations | toJson }}}
spec: {type: {{ .Values.mqttService.type }}, selector: {app: {{ .Values.mqttService.app }}}, ports: [{name: server, port: 1984, targetPort: mqtt}]}
`,
		"templates/v4.yaml": "{{ if .Values.ingress.enabled }}" + backendIngress("server-v4", "ingress", "/") + "{{ end }}",
		"templates/v6.yaml": "{{ if .Values.ingressV6.enabled }}" + backendIngress("server-v6", "ingressV6", "/*") + "{{ end }}",
		// Something that others may have made before.
		"templates/class.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ingress}\ndata: {class: {{ .Values.ingress.ingressClassName | quote }}, host: {{ .Values.shared.serverHostname | quote }}}\n",
	}
	maps.Copy(files, more)
	return standChart(t, "spacelift", files)
}

// backendHelpers reads the version out of the image as the vendor's newer charts
// do: what comes after the last slash has to be NAME:vX.Y.Z, in two parts. Any
// other text, a digest behind the tag too, is taken for an old version, whose
// scheduler is a workload of its own.
const backendHelpers = `{{- define "standalone" -}}
{{- $parts := splitList ":" (last (splitList "/" .Values.shared.image)) -}}
{{- if hasKey .Values.scheduler "enabled" -}}
{{- if .Values.scheduler.enabled -}}yes{{- end -}}
{{- else if ne (len $parts) 2 -}}yes
{{- else if not (regexMatch "^v[0-9]+[.][0-9]+[.][0-9]+$" (index $parts 1)) -}}yes
{{- else if semverCompare "<6.4.0" (index $parts 1) -}}yes
{{- end -}}
{{- end -}}
`

// backendWorkload is the template of a Deployment that reads the shared Secret
// and others.
func backendWorkload(part, secrets, probe string) string {
	ports := "{name: instrumentation, containerPort: 8080}"
	if part == "server" {
		ports += ", {name: server, containerPort: 1983}, {name: mqtt, containerPort: 1984}"
	}
	return `apiVersion: apps/v1
kind: Deployment
metadata: {name: spacelift-` + part + `}
spec:
  replicas: 2
  selector: {matchLabels: {app: ` + part + `}}
  template:
    metadata: {labels: {app: ` + part + `}, annotations: {{ .Values.` + part + `.podAnnotations | toJson }}}
    spec:
      {{- if .Values.cloudSqlProxy.enabled }}
      initContainers: [{name: cloud-sql-proxy, restartPolicy: Always, image: {{ .Values.cloudSqlProxy.image | quote }}, args: [--private-ip, {{ .Values.cloudSqlProxy.dbConnectionName | quote }}]}]
      {{- end }}
      containers:
        - name: ` + part + `
          image: {{ .Values.shared.image | quote }}
          envFrom: [{secretRef: {name: {{ .Values.shared.secretRef }}}}` + secrets + `]
          ports: [` + ports + `]
          ` + probe + `: {{ .Values.` + part + `.` + probe + ` | toJson }}
`
}

func backendIngress(name, value, path string) string {
	return `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: ` + name + `, annotations: {{ .Values.` + value + `.annotations | toJson }}}
spec:
  {{- with .Values.` + value + `.ingressClassName }}
  ingressClassName: {{ . }}
  {{- end }}
  rules: [{host: {{ .Values.shared.serverHostname | quote }}, http: {paths: [{path: "` + path + `", pathType: ImplementationSpecific, backend: {service: {name: spacelift-server, port: {name: server}}}}]}}]
`
}
