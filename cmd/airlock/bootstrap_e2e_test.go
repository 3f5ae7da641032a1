//go:build e2e

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/testdata/cluster/appimage"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestBootstrap runs pods by upstream names on a node that has no registry: it
// pulls them out of the bundle, from airlock serve, by the hosts.toml that Airlock
// wrote. Later a real registry takes over in the same way. The upstream itself is
// gone before the first pull.
func TestBootstrap(t *testing.T) {
	e := newBox(t)
	certs := os.Getenv("BOX_CERTS_D")
	upstream, b := bootstrapBundle(t, e)
	e.apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: bootstrap}\n")

	if why := e.pod(t, "too-early", upstream+"/demo/one:1"); !strings.Contains(why, upstream+"/demo/one:1") {
		t.Fatalf("without hosts.toml: %q", why)
	}
	serve, host := e.serve(t, b)
	e.hosts(t, b, host, certs)
	// As an installation names it, at a registry that nodes know nothing of.
	if why := e.pod(t, "by-its-new-name", host+"/demo/one:1"); why != "" {
		t.Fatalf("out of the bundle, by its new name: %s", why)
	}
	if why := e.pod(t, "from-the-bundle", upstream+"/demo/one:1"); why != "" {
		t.Fatalf("out of the bundle: %s", why)
	}

	// The real registry, and the server out of the bundle is over.
	if err := serve.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := serve.Wait(); err != nil {
		t.Fatalf("serve: %v", err)
	}
	if why := e.pod(t, "between", upstream+"/demo/two:2"); why == "" {
		t.Fatal("a pod runs an image that nobody serves")
	}
	t.Setenv("AIRLOCK_REGISTRY_USERNAME", "airlock")
	t.Setenv("AIRLOCK_REGISTRY_PASSWORD", "password-of-the-registry")
	e.hosts(t, b, boxRegistry+"/real", certs)
	if why := e.pod(t, "from-the-registry", upstream+"/demo/two:2"); why != "" {
		t.Fatalf("from the registry: %s", why)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.took["/v2/real/demo/two/manifests/2"] == 0 {
		t.Errorf("the node did not ask the registry: %v", e.took)
	}
}

// bootstrapBundle makes a bundle of two images of an upstream registry, which is
// over when it returns.
func bootstrapBundle(t *testing.T, e *box) (upstream, path string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(e.node, "0"))
	if err != nil {
		t.Fatal(err)
	}
	upstream = l.Addr().String()
	srv := &http.Server{Handler: olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}}), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends below
	defer srv.Close()
	for i, ref := range []string{"demo/one:1", "demo/two:2"} {
		if err := appimage.Push(t.Context(), upstream, ref, os.Getenv("BOX_APP"), "serve", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(t.TempDir())
	definition := "apiVersion: airlock/v1\nkind: Bundle\nproduct: app\nversion: v1\nrelease: 1\nimages:\n" +
		"  - {ref: \"" + upstream + "/demo/one:1\", platforms: [linux/amd64]}\n  - {ref: \"" + upstream + "/demo/two:2\", platforms: [linux/amd64]}\ntools: {path: tools, platforms: [linux/amd64]}\n"
	tool, err := os.ReadFile(os.Getenv("AIRLOCK_E2E_TOOL"))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Mkdir("tools", 0o755), os.WriteFile("tools/airlock-linux-amd64", tool, 0o755), os.WriteFile("airlock.yaml", []byte(definition), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AIRLOCK_KEY_PASSWORD", "secret")
	e.airlock(t, "keygen")
	e.airlock(t, "bundle", "create", "--plain-http", upstream, "--key", "airlock.key", "-o", "app.tar.zst")
	return upstream, "app.tar.zst"
}

// serve runs airlock serve and returns where it listens, which nodes reach.
func (e *box) serve(t *testing.T, b string) (cmd *exec.Cmd, host string) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Getenv("AIRLOCK_E2E_TOOL"), "serve", b, "--key", "airlock.pub", "--listen", net.JoinHostPort(e.node, "0"), "--output", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // unless it has ended
	var said struct {
		Address string `json:"address"`
	}
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimPrefix(said.Address, "http://")
}

// hosts mirrors to a registry, and has Airlock write the hosts.toml of its map to
// where the node's containerd reads them.
func (e *box) hosts(t *testing.T, b, to, certs string) {
	t.Helper()
	host, _, _ := strings.Cut(to, "/")
	m := filepath.Join(t.TempDir(), "map.json")
	e.airlock(t, "mirror", b, "--key", "airlock.pub", "--to", to, "--plain-http", host, "--relocation-map", m)
	e.airlock(t, "relocate", m, "--to", "containerd", "-o", certs)
}

// pod runs an image by the name given. It returns "" when it runs, and the
// kubelet's words when it cannot be pulled.
func (e *box) pod(t *testing.T, name, image string) (why string) {
	t.Helper()
	pods := e.clients.CoreV1().Pods("bootstrap")
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64), Containers: []corev1.Container{{Name: "app", Image: image, ImagePullPolicy: corev1.PullIfNotPresent}},
	}}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(time.Minute)
	_, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
	for ; apierrors.IsForbidden(err) && time.Now().Before(end); <-tick.C { // its service account comes a moment after the namespace
		_, err = pods.Create(t.Context(), p, metav1.CreateOptions{})
	}
	for err == nil && time.Now().Before(end) {
		if p, err = pods.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			break
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Running != nil {
				return ""
			}
			if w := s.State.Waiting; w != nil && w.Message != "" {
				return w.Message
			}
		}
		<-tick.C
	}
	t.Fatalf("pod %s neither runs nor says why: %v", name, err)
	return ""
}
