//go:build e2e

package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/airlock-project/airlock/testdata/cluster/appimage"
	"github.com/airlock-project/airlock/verify"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// TestOutside is the connected side of TestEndToEnd: the commands of a release
// engineer make two bundles of the product, of images out of a registry by their
// upstream names, a vendor's archive and charts. What they leave is all that is
// carried into the box.
func TestOutside(t *testing.T) {
	medium := os.Getenv("AIRLOCK_E2E_MEDIUM")
	if medium == "" || os.Getenv("BOX_APP") != "" {
		t.Fatal("not outside: run the tests with `make e2e`")
	}
	if err := os.RemoveAll(medium); err != nil {
		t.Fatal(err)
	}
	app := filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", app, "../../testdata/cluster/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	upstream := upstreamRegistry(t, app)
	program, err := os.ReadFile(app)
	if err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	tool(t, keys, "AIRLOCK_KEY_PASSWORD=password-of-release", "keygen", "--name", "release")
	for _, r := range []release{e2eRelease(t, fullVersion, "1.0.0", 7, program), e2eRelease(t, newVersion, "1.1.0", 8, program)} {
		dir, out := t.TempDir(), filepath.Join(medium, r.version)
		fingerprint := r.write(t, dir)
		for name, text := range map[string]string{filepath.Join(dir, "airlock.yaml"): r.definition(fingerprint), filepath.Join(out, "fingerprint"): fingerprint} {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "tools"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(os.Getenv("AIRLOCK_E2E_TOOL"), filepath.Join(dir, "tools", "airlock-linux-amd64")); err != nil {
			t.Fatal(err)
		}
		tool(t, dir, "AIRLOCK_KEY_PASSWORD=password-of-release", "bundle", "create", "--resolve", "public.ecr.aws:"+upstream, "--plain-http", "public.ecr.aws",
			"--key", filepath.Join(keys, "release.key"), "-o", filepath.Join(out, "bundle.tar.zst"))
		public, err := os.ReadFile(filepath.Join(keys, "release.pub"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, "release.pub"), public, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// upstreamRegistry is where the runner images are, until the test ends.
func upstreamRegistry(t *testing.T, app string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}}), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = srv.Close() })
	for _, image := range []string{runnerImage, ansibleImage} {
		_, ref, _ := strings.Cut(image, "/")
		if err := appimage.Push(t.Context(), l.Addr().String(), ref, app, "serve", ref); err != nil {
			t.Fatal(err)
		}
	}
	return l.Addr().String()
}

// definition is the airlock.yaml of a release, and what write wrote.
func (r release) definition(fingerprint string) string {
	archive := "self-hosted-" + r.version + ".tar.gz"
	return fmt.Sprintf(`apiVersion: airlock/v1
kind: Bundle
product: %s
version: %s
release: %d
platforms: [linux/amd64]
archives:
  - name: vendor
    path: %[4]s
    sums: %[4]s_SHA256SUMS
    signature: %[4]s_SHA256SUMS.sig
    signer: {key: vendor.asc, fingerprint: %[5]s}
    images:
      - {path: container-images/spacelift-backend.tar, as: "spacelift-backend:%[2]s"}
      - {path: container-images/spacelift-launcher.tar, as: "spacelift-launcher:%[2]s"}
    files:
      - {path: bin/spacelift-launcher, name: spacelift-launcher}
images:
  - {ref: "%[6]s"}
  - {ref: "%[7]s"}
charts:
  - {name: spacelift, path: spacelift}
  - {name: spacelift-workerpool-controller, path: controller}
  - {name: ingress-nginx, path: ingress}
tools: {path: tools, platforms: [linux/amd64]}
checklist: preset:%[1]s
`, spacelift.Name, r.version, r.number, archive, fingerprint, runnerImage, ansibleImage)
}

// tool runs airlock as a person does.
func tool(t *testing.T, dir, env string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv("AIRLOCK_E2E_TOOL"), args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("airlock %v: %v: %s", args, err, out)
	}
	return string(out)
}

// carriedIn opens what was carried in, after stock tools and the commands have
// looked at it.
func carriedIn(t *testing.T, version string) opened {
	t.Helper()
	dir := filepath.Join(os.Getenv("AIRLOCK_E2E_MEDIUM"), version)
	b := opened{path: filepath.Join(dir, "bundle.tar.zst"), key: filepath.Join(dir, "release.pub"), policy: filepath.Join(t.TempDir(), "policy.yaml")}
	fingerprint, err := os.ReadFile(filepath.Join(dir, "fingerprint"))
	if err != nil {
		t.Fatalf("nothing was carried in, run the tests with `make e2e`: %v", err)
	}
	b.fingerprint = string(fingerprint)
	sums := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "bundle.tar.zst.sha256")
	sums.Dir = dir
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v: %s", err, out)
	}
	tool(t, dir, "", "policy", "init", "--key", b.key, "--out", b.policy)
	if out := tool(t, dir, "", "bundle", "verify", b.path, "--policy", b.policy); !strings.Contains(out, "every byte") {
		t.Errorf("bundle verify: %s", out)
	}
	policy, err := verify.KeyPolicy(b.key)
	if err != nil {
		t.Fatal(err)
	}
	if b.Bundle, err = verify.Open(t.Context(), b.path, policy, verify.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}
