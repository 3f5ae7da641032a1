package main

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var updateValues = flag.Bool("update-values", false, "write the golden files of the Spacelift chart's values anew")

// moduleValues are the output helm_values of a platform's Terraform module, in
// the shape of the table of section "Helm" of the specification: what it sets
// for everybody, for workers outside, and for the VCS gateway.
func moduleValues(platform string, outside, gateway bool) string {
	shared := `
shared: {serverHostname: module.example, image: "registry.of.the.module/spacelift-backend:v1.0.0", secretRef: spacelift-shared}
server: {secretRef: spacelift-server}
drain: {secretRef: spacelift-drain}
`
	parts := map[string][2]string{
		"eks": {`
serviceAccount: {create: false}
server: {secretRef: spacelift-server, serviceAccount: {create: true, name: spacelift-server, annotations: {eks.amazonaws.com/role-arn: "arn:server"}}}
drain: {secretRef: spacelift-drain, serviceAccount: {create: true, name: spacelift-drain, annotations: {eks.amazonaws.com/role-arn: "arn:drain"}}}
scheduler: {serviceAccount: {create: true, name: spacelift-scheduler, annotations: {eks.amazonaws.com/role-arn: "arn:scheduler"}}}
ingress: {enabled: true, ingressClassName: spacelift, annotations: {alb.ingress.kubernetes.io/healthcheck-port: "8080", alb.ingress.kubernetes.io/healthcheck-path: /readiness, alb.ingress.kubernetes.io/healthcheck-interval-seconds: "10"}}
ingressV6: {enabled: false}
`, `
vcsGateway: {enabled: true, domain: vcs.module.example, serviceAccount: {create: true, name: spacelift-vcs-gateway, annotations: {eks.amazonaws.com/role-arn: "arn:vcs-gateway"}}, ingress: {enabled: true, ingressClassName: spacelift-vcs-gateway, annotations: {alb.ingress.kubernetes.io/backend-protocol-version: GRPC}}}
`},
		"gke": {`
serviceAccount: {annotations: {iam.gke.io/gcp-service-account: backend@project.iam.example}}
cloudSqlProxy: {enabled: true, quiet: true, dbConnectionName: "project-1:europe-west1:spacelift"}
ingress: {annotations: {kubernetes.io/ingress.global-static-ip-name: spacelift-v4}}
ingressV6: {annotations: {kubernetes.io/ingress.global-static-ip-name: spacelift-v6, acme.cert-manager.io/http01-edit-in-place: "true", cert-manager.io/cluster-issuer: letsencrypt-prod}}
`, `
vcsGateway: {enabled: true, domain: vcs.module.example, ingress: {enabled: false}, service: {appProtocol: kubernetes.io/h2c}, gateway: {enabled: true, gatewayClassName: gke-l7-global-external-managed, annotations: {networking.gke.io/address-name: spacelift-vcs, cert-manager.io/cluster-issuer: letsencrypt-prod}}}
`},
		"aks": {`
ingress: {ingressClassName: nginx, annotations: {nginx.ingress.kubernetes.io/ssl-redirect: "true", cert-manager.io/cluster-issuer: letsencrypt-prod}}
ingressV6: {enabled: false}
`, `
vcsGateway: {enabled: true, domain: vcs.module.example, ingress: {enabled: true, ingressClassName: nginx, annotations: {nginx.ingress.kubernetes.io/ssl-redirect: "true", nginx.ingress.kubernetes.io/backend-protocol: GRPC, cert-manager.io/cluster-issuer: letsencrypt-prod}}}
`},
	}
	text := parts[platform][0]
	for line := range strings.Lines(shared) {
		if key, _, _ := strings.Cut(line, ":"); !strings.Contains(text, "\n"+key+":") {
			text += line
		}
	}
	if gateway {
		text += parts[platform][1]
	}
	if outside && platform == "eks" {
		text += "mqttService: {type: LoadBalancer, annotations: {service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing, service.beta.kubernetes.io/aws-load-balancer-type: external, service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip}}\n"
	}
	return text
}

// valuesChart is a chart that renders nothing but the values that it is given. In
// base64 nothing takes what it holds for images.
func valuesChart(t *testing.T) bundle.Source {
	t.Helper()
	return standChart(t, "spacelift", map[string]string{
		"Chart.yaml":            "apiVersion: v2\nname: spacelift-self-hosted\nversion: 0.62.0\n",
		"templates/values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: values}\ndata: {values: {{ toYaml .Values | b64enc | quote }}}\n",
	})
}

// renderGiven are the outputs of the rows before render-charts.
func renderGiven() map[string]any {
	const host, sum = "registry.site-a.example", "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	var entries []any
	for source, target := range map[string]string{
		"spacelift-backend:v4.3.0": "/airlock/spacelift-backend:v4.3.0", "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.21.0": "/airlock/cloud-sql-connectors/cloud-sql-proxy:2.21.0",
	} {
		entries = append(entries, map[string]any{"kind": "image", "source": source, "sourceDigest": sum, "target": host + target, "digest": sum})
	}
	return map[string]any{
		"image.backend.repository": host + "/airlock/spacelift-backend", "image.backend.tag": "v4.3.0", "image.backend.digest": sum,
		"relocation.map": map[string]any{"apiVersion": "airlock/v1", "kind": "RelocationMap", "bundle": "sha256:" + strings.Repeat("b", 64), "target": host, "entries": entries},
	}
}

// TestValuesGolden compares what the Spacelift chart is given on each platform,
// for each source of the certificate, with and without a VCS gateway.
func TestValuesGolden(t *testing.T) {
	chart := []bundle.Source{valuesChart(t)}
	for _, tt := range []struct {
		platform string
		module   bool
		modes    []string
		more     map[string]any
		suffix   string
	}{
		{platform: "eks", module: true, modes: []string{"acm"}},
		{platform: "eks", module: true, modes: []string{"acm"}, more: map[string]any{"workers.location": "external", "hosts.mqtt": "mqtt.site-a.example"}, suffix: "-workers-outside"},
		{platform: "eks", modes: []string{"acm"}, suffix: "-no-module"},
		{platform: "gke", module: true, modes: []string{"byo", "cert-manager"}},
		{platform: "gke", modes: []string{"byo"}, more: map[string]any{"db.connection_name": "project-2:europe-west1:spacelift"}, suffix: "-no-module"},
		{platform: "aks", module: true, modes: []string{"byo", "cert-manager"}},
		{platform: "onprem", modes: []string{"byo", "cert-manager"}},
		{platform: "onprem", modes: []string{"byo"}, more: map[string]any{"ingress.class": "traefik", "helm.values": map[string]any{"server": map[string]any{"replicaCount": 5}}}, suffix: "-options"},
	} {
		for _, mode := range tt.modes {
			for _, gateway := range []bool{false, true} {
				name := tt.platform + "-" + mode + tt.suffix
				in := map[string]any{"hosts.server": netHost, "tls.mode": mode}
				if gateway {
					name += "-gateway"
					in["hosts.vcs_gateway"] = "vcs.site-a.example"
				}
				if tt.module {
					in["infra.helm_values"] = rowFile(t, []byte(moduleValues(tt.platform, tt.more["workers.location"] == "external", gateway)))
				}
				maps.Copy(in, tt.more)
				t.Run(name, func(t *testing.T) {
					c := presetChecklist(t)
					for key := range in {
						if def := c.Inputs[key]; len(def.Platforms) > 0 && !slices.Contains(def.Platforms, tt.platform) {
							t.Errorf("%s is not asked for on %s", key, tt.platform)
						}
					}
					got := runRow(t, row{item: "render-charts", platform: tt.platform, inputs: in, given: renderGiven(), more: chart, want: install.StatePass})
					goldenValues(t, name, renderedValues(t, got))
				})
			}
		}
	}
}

// renderedValues reads the values out of what render-charts wrote.
func renderedValues(t *testing.T, item *install.ItemReport) string {
	t.Helper()
	for _, f := range item.Findings {
		_, dir, ok := strings.Cut(f.Detail, "kubectl apply -R -f ")
		if !ok {
			continue
		}
		files, err := filepath.Glob(filepath.Join(strings.Trim(dir, "'"), "*.yaml"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files %v, %v", files, err)
		}
		raw, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		var o struct{ Data struct{ Values string } }
		if err := yaml.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		text, err := base64.StdEncoding.DecodeString(o.Data.Values)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	t.Fatalf("nothing was rendered: %+v", item.Findings)
	return ""
}

func goldenValues(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "values", name+".yaml")
	if *updateValues {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

// TestValuesOfBothRows: what is looked through in render-charts is what
// deploy-helm-chart installs.
func TestValuesOfBothRows(t *testing.T) {
	with := map[string]string{}
	for _, item := range presetChecklist(t).Items {
		if item.ID != "render-charts" && item.ID != "deploy-helm-chart" {
			continue
		}
		out := map[string]any{}
		for _, key := range []string{"base", "values", "chart", "release", "namespace", "map", "files"} {
			if out[key] = item.Steps[0].With[key]; out[key] == nil {
				t.Errorf("%s has no %s", item.ID, key)
			}
		}
		raw, err := json.MarshalIndent(out, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		with[item.ID] = string(raw)
	}
	if diff := cmp.Diff(with["render-charts"], with["deploy-helm-chart"]); diff != "" {
		t.Errorf("render-charts and deploy-helm-chart differ:\n%s", diff)
	}
}

// TestRowRenderRefuses: what leads outside is told before anything is changed,
// whoever set it.
func TestRowRenderRefuses(t *testing.T) {
	chart := []bundle.Source{backendChart(t, map[string]string{"values.schema.json": "{}"})} // as any platform has values
	issuer := func(name string) map[string]any {
		return map[string]any{"ingress": map[string]any{"annotations": map[string]any{"cert-manager.io/cluster-issuer": name}}}
	}
	scheme := map[string]any{"mqttService": map[string]any{"annotations": map[string]any{"service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing"}}}
	v6 := map[string]any{"ingressV6": map[string]any{"enabled": true}}
	proxy := func(instance string) map[string]any {
		return map[string]any{"cloudSqlProxy": map[string]any{"enabled": true, "image": "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.21.0", "dbConnectionName": instance}}
	}
	module := func(platform string) string { return rowFile(t, []byte(moduleValues(platform, true, false))) }
	for _, r := range []row{
		{name: "the module's issuer", platform: "aks", inputs: map[string]any{"infra.helm_values": module("aks")}, want: install.StatePass},
		{name: "an issuer outside", inputs: map[string]any{"helm.values": issuer("letsencrypt-prod")}, want: install.StateFail, code: "REN-04", says: []string{"Ingress/server-v4", "letsencrypt", "issuer outside", "enclave-ca", "helm.values"}},
		{name: "an issuer outside, reachable", airgap: "partial", inputs: map[string]any{"helm.values": issuer("letsencrypt-prod")}, want: install.StateWarn, code: "REN-04", says: []string{"issuer outside"}},
		{name: "an issuer inside of that name", inputs: map[string]any{"helm.values": issuer("letsencrypt-prod"), "issuer.name": "letsencrypt-prod"}, want: install.StatePass},
		{name: "another issuer", inputs: map[string]any{"tls.mode": "cert-manager", "helm.values": issuer("corporate")}, want: install.StateWarn, code: "REN-04", says: []string{"corporate", "another issuer", "create-cluster-issuer"}},
		{name: "second ingress", inputs: map[string]any{"helm.values": v6}, want: install.StateFail, code: "REN-04", says: []string{"Ingress/server-v6", "ingressV6.enabled"}},
		{name: "second ingress on GKE", platform: "gke", inputs: map[string]any{"helm.values": v6, "infra.helm_values": module("gke")}, want: install.StatePass},
		{name: "placeholder of the database", platform: "gke", inputs: map[string]any{"helm.values": proxy("project:region:instance")}, want: install.StateFail, code: "REN-04", says: []string{"Deployment/spacelift-drain", "an example's instance", "db.connection_name"}},
		{name: "database of the site", platform: "gke", inputs: map[string]any{"helm.values": map[string]any{"cloudSqlProxy": map[string]any{"image": "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.21.0"}}, "db.connection_name": "p:r:i"}, want: install.StatePass},
		{name: "the module's balancer", platform: "eks", inputs: map[string]any{"infra.helm_values": module("eks"), "workers.location": "external"}, want: install.StatePass},
		{name: "the module's balancer that no worker needs", platform: "eks", inputs: map[string]any{"infra.helm_values": module("eks")}, want: install.StateFail, code: "REN-04", says: []string{"internet-facing"}},
		{name: "balancer of the Internet", platform: "eks", inputs: map[string]any{"helm.values": scheme}, want: install.StateFail, code: "REN-04", says: []string{"Service/spacelift-mqtt", "internet-facing", "internal"}},
		{name: "image outside", inputs: map[string]any{"helm.values": map[string]any{"proxy": "quay.io/somewhere/else:1"}}, want: install.StateFail, code: "REN-01", says: []string{"quay.io/somewhere/else:1"}},
		{name: "no such file", platform: "aks", inputs: map[string]any{"infra.helm_values": filepath.Join(t.TempDir(), "nothing.yaml")}, want: install.StateFail, code: "REN-02", says: []string{"nothing.yaml", "infra.helm_values"}},
	} {
		r.item, r.more, r.given = "render-charts", chart, renderGiven()
		in := map[string]any{"hosts.server": netHost}
		maps.Copy(in, r.inputs)
		r.inputs = in
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}
