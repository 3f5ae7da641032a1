package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const version = "v1.0.0"

// product writes everything the vendor and the release engineer would have:
// the archive with checksums and signature, a chart, and the definition.
func (d *demo) product(context.Context) error {
	d.say("\nPack the stand-in product as its vendor would")
	fingerprint, err := d.vendorArchive()
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

// vendorArchive writes self-hosted-v1.0.0.tar.gz with its checksums, their
// signature and the key, and returns the key's fingerprint.
func (d *demo) vendorArchive() (string, error) {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	add := func(name string, mode int64, data []byte) error {
		h := &tar.Header{Name: "demo-" + version + "/" + name, Mode: mode, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := tw.Write(data)
		return err
	}
	if err := add("version", 0o644, []byte(version+"\n")); err != nil {
		return "", err
	}
	for _, n := range []string{"backend", "launcher"} {
		bin, err := os.ReadFile(filepath.Join(d.dir, "bin", n))
		if err != nil {
			return "", err
		}
		img, err := dockerSave("demo-"+n+":"+version, n, bin)
		if err != nil {
			return "", err
		}
		if err := add("container-images/demo-"+n+".tar", 0o644, img); err != nil {
			return "", err
		}
		if n == "launcher" {
			if err := add("bin/demo-launcher", 0o755, bin); err != nil {
				return "", err
			}
		}
	}
	if err := tw.Close(); err != nil {
		return "", err
	}
	if err := zw.Close(); err != nil {
		return "", err
	}
	archive := "demo-" + version + ".tar.gz"
	if err := os.WriteFile(d.path(archive), buf.Bytes(), 0o644); err != nil {
		return "", err
	}
	sum := sha256.Sum256(buf.Bytes())
	return d.sign(archive, []byte(hex.EncodeToString(sum[:])+"  "+archive+"\n"))
}

// dockerSave makes an image of one static binary in the format of docker save.
func dockerSave(ref, binary string, data []byte) ([]byte, error) {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	if err := tw.WriteHeader(&tar.Header{Name: binary, Mode: 0o755, Size: int64(len(data)), ModTime: time.Unix(0, 0)}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(data); err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	img, err = mutate.ConfigFile(img, withPlatform(img, binary))
	if err != nil {
		return nil, err
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, img, &out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func withPlatform(img v1.Image, binary string) *v1.ConfigFile {
	c, err := img.ConfigFile()
	if err != nil {
		return &v1.ConfigFile{}
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	c.Config.Entrypoint = []string{"/" + binary}
	return c
}

// sign writes the checksums file, its detached signature and the public key.
func (d *demo) sign(archive string, sums []byte) (string, error) {
	e, err := openpgp.NewEntity("Demo Vendor", "stand-in", "vendor@example.com", &packet.Config{DefaultHash: crypto.SHA256, RSABits: 3072})
	if err != nil {
		return "", err
	}
	var sig, pub bytes.Buffer
	if err := openpgp.DetachSign(&sig, e, bytes.NewReader(sums), nil); err != nil {
		return "", err
	}
	w, err := armor.Encode(&pub, openpgp.PublicKeyType, nil)
	if err != nil {
		return "", err
	}
	if err := e.Serialize(w); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	for name, data := range map[string][]byte{archive + "_SHA256SUMS": sums, archive + "_SHA256SUMS.sig": sig.Bytes(), "vendor.asc": pub.Bytes()} {
		if err := os.WriteFile(d.path(name), data, 0o644); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%X", e.PrimaryKey.Fingerprint), nil
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
