package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/testdata/fixture"
)

const version = "v1.0.0"

// product writes everything the vendor and the release engineer would have:
// the archive with checksums and signature, a chart, and the definition.
func (d *demo) product(context.Context) error {
	d.say("\nPack the stand-in product as its vendor would")
	programs := map[string][]byte{}
	for _, n := range []string{"backend", "launcher"} {
		bin, err := os.ReadFile(filepath.Join(d.dir, "bin", n))
		if err != nil {
			return err
		}
		programs["demo-"+n] = bin
	}
	fingerprint, err := fixture.VendorArchive(d.dir, "demo", version, programs)
	if err != nil {
		return err
	}
	if err := d.certificate("demo.internal"); err != nil {
		return err
	}
	files := map[string]string{
		"airlock.yaml":                strings.ReplaceAll(definition, "FINGERPRINT", fingerprint),
		"checklist.yaml":              strings.ReplaceAll(checklist, "FINGERPRINT", fingerprint),
		"docs/runbook.md":             "# Runbook\n\nCall the vendor.\n",
		"chart/Chart.yaml":            "apiVersion: v2\nname: demo\nversion: 1.0.0\nappVersion: v1.0.0\n",
		"chart/values.yaml":           "image: demo-backend:v1.0.0\nlauncher: demo-launcher:v1.0.0\n",
		"chart/templates/deploy.yaml": deployment,
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(d.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	d.say("\n$ cat airlock.yaml\n%s", strings.TrimSpace(files["airlock.yaml"]))
	return nil
}

// site writes the enclave's answers.
func (d *demo) site(registry string) error {
	return os.WriteFile(d.path("site.yaml"), []byte(strings.ReplaceAll(site, "REGISTRY", registry)), 0o600)
}

const definition = `apiVersion: airlock/v1
kind: Bundle
product: demo
version: v1.0.0
release: 1
archives:
  - name: vendor
    path: demo-v1.0.0.tar.gz
    sums: demo-v1.0.0.tar.gz_SHA256SUMS
    signature: demo-v1.0.0.tar.gz_SHA256SUMS.sig
    signer: {key: vendor.asc, fingerprint: FINGERPRINT}
    images:
      - {path: container-images/demo-backend.tar, as: "demo-backend:v1.0.0"}
      - {path: container-images/demo-launcher.tar, as: "demo-launcher:v1.0.0"}
    files:
      - {path: bin/demo-launcher, name: demo-launcher}
charts:
  - {name: demo, path: chart}
files:
  - {path: docs, name: docs}
checklist: {path: checklist.yaml}
`

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: demo
spec:
  selector: {matchLabels: {app: demo}}
  template:
    metadata: {labels: {app: demo}}
    spec:
      containers:
        - name: backend
          image: {{ .Values.image }}
          env:
            - {name: LAUNCHER_IMAGE, value: "{{ .Values.launcher }}"}
`

const site = `apiVersion: airlock/v1
kind: Site
name: demo-site
platform: onprem
airgap: isolated
state: state
registry: {to: REGISTRY/airlock, plainHTTP: true}
inputs:
  hosts.server: demo.internal
  tls.cert_file: tls.crt
  tls.key_file: tls.key
  tls.ca_file: ca.pem
  registry.host: REGISTRY
`
