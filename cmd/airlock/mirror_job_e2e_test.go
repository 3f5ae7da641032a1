//go:build e2e

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/testdata/fixture"
)

// TestMirrorJobs runs the rendered Jobs on a real node, by the commands in their
// own first lines: Airlock's own image out of the bundle, three shards that read
// it from a volume, and the closing step. Every blob is sent once.
func TestMirrorJobs(t *testing.T) {
	e := newBox(t)
	volume := jobBundle(t, e)
	target := e.forward(t, boxRegistry) + "/jobs"
	jobs := filepath.Join(t.TempDir(), "jobs.yaml")
	e.airlock(t, "mirror", "app.tar.zst", "--render-job", jobs, "--shards", "3", "--volume", "bundle", "--namespace", "carry",
		"--image", boxRegistry+"/tools/airlock:v1", "--auth-secret", "login", "--to", target, "--plain-http", target[:strings.IndexByte(target, '/')])
	e.apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: carry}\n---\n"+
		"apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: bundle}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadOnlyMany], storageClassName: \"\", hostPath: {path: "+volume+"}}\n---\n"+
		"apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: bundle, namespace: carry}\nspec: {accessModes: [ReadOnlyMany], storageClassName: \"\", volumeName: bundle, resources: {requests: {storage: 1Gi}}}\n")
	kubectl := func(args ...string) { e.run(t, "kubectl", append([]string{"--namespace", "carry"}, args...)...) }
	kubectl("create", "configmap", "airlock-policy", "--from-file="+filepath.Join(volume, "policy.yaml"), "--from-file="+filepath.Join(volume, "airlock.pub"))
	kubectl("create", "secret", "docker-registry", "login", "--docker-server="+target[:strings.IndexByte(target, '/')], "--docker-username=airlock", "--docker-password=password-of-the-registry")
	kubectl("apply", "-f", jobs)
	kubectl("wait", "--for=condition=complete", "--timeout=120s", "job/airlock-mirror-shards")
	kubectl("patch", "job/airlock-mirror-closing", "--type=merge", "-p", `{"spec":{"suspend":false}}`)
	kubectl("wait", "--for=condition=complete", "--timeout=120s", "job/airlock-mirror-closing")
	if t.Failed() {
		kubectl("get", "pods,events")
		t.Log(e.run(t, "kubectl", "--namespace", "carry", "logs", "--selector", "app.kubernetes.io/name=airlock", "--tail=20"))
	}
	if len(e.sent) < 6 {
		t.Errorf("the Jobs sent %d blobs", len(e.sent))
	}
	for digest, n := range e.sent {
		if n != 1 {
			t.Errorf("%s was sent %d times", digest, n)
		}
	}
	// One more run, from here, finds nothing to do.
	t.Setenv("AIRLOCK_REGISTRY_USERNAME", "airlock")
	t.Setenv("AIRLOCK_REGISTRY_PASSWORD", "password-of-the-registry")
	out := e.airlock(t, "mirror", filepath.Join(volume, "app.tar.zst"), "--key", filepath.Join(volume, "airlock.pub"), "--to", boxRegistry+"/jobs", "--plain-http", boxRegistry, "--verify", "full")
	if !strings.Contains(out, "0 items sent, 4 there already; 0 blobs sent") {
		t.Errorf("a run afterwards: %s", out)
	}
}

// jobBundle makes a bundle of two images and Airlock itself, mirrors Airlock for
// the node, and returns the directory of the volume, which pods may read.
func jobBundle(t *testing.T, e *box) string {
	t.Helper()
	dir := t.TempDir()
	for _, image := range []string{"upstream/one:1", "upstream/two:2"} {
		if err := fixture.Push(t.Context(), boxRegistry, image); err != nil {
			t.Fatal(err)
		}
	}
	tool, err := os.ReadFile(os.Getenv("AIRLOCK_E2E_TOOL"))
	if err != nil {
		t.Fatal(err)
	}
	definition := "apiVersion: airlock/v1\nkind: Bundle\nproduct: app\nversion: v1\nrelease: 1\nimages:\n" +
		"  - {ref: \"" + boxRegistry + "/upstream/one:1\", platforms: [linux/amd64]}\n  - {ref: \"" + boxRegistry + "/upstream/two:2\", platforms: [linux/amd64]}\n" +
		"tools: {path: tools, platforms: [linux/amd64]}\n"
	err = errors.Join(os.Mkdir(filepath.Join(dir, "tools"), 0o755), os.WriteFile(filepath.Join(dir, "tools", "airlock-linux-amd64"), tool, 0o755),
		os.WriteFile(filepath.Join(dir, "airlock.yaml"), []byte(definition), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("AIRLOCK_KEY_PASSWORD", "secret")
	e.airlock(t, "keygen")
	e.airlock(t, "policy", "init", "--key", "airlock.pub")
	e.airlock(t, "bundle", "create", "--plain-http", boxRegistry, "--key", "airlock.key", "-o", "app.tar.zst")
	t.Setenv("AIRLOCK_REGISTRY_USERNAME", "airlock")
	t.Setenv("AIRLOCK_REGISTRY_PASSWORD", "password-of-the-registry")
	e.airlock(t, "mirror", "app.tar.zst", "--key", "airlock.pub", "--to", boxRegistry+"/tools", "--plain-http", boxRegistry)
	// Pods have a user of their own. The test's directories are for nobody else.
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod("app.tar.zst", 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// airlock runs a command that has to succeed, and returns its result.
func (e *box) airlock(t *testing.T, args ...string) string {
	t.Helper()
	var out, said bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &out, &said); code != exitDone {
		t.Fatalf("airlock %v: code %d: %s%s", args, code, out.String(), said.String())
	}
	return out.String()
}

// apply has kubectl apply objects.
func (e *box) apply(t *testing.T, objects string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(path, []byte(objects), 0o600); err != nil {
		t.Fatal(err)
	}
	e.run(t, "kubectl", "apply", "-f", path)
}
