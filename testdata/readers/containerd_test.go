//go:build all

package readers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestContainerdPulls lets containerd fetch images out of the file: under the
// name they are served by, and under their upstream name through the
// hosts.toml that nodes have. Unpacking needs snapshots, hence root; fetching
// content does not.
func TestContainerdPulls(t *testing.T) {
	host := serve(t, lab.bundle)
	socket := containerd(t)
	hosts := t.TempDir()
	write(t, filepath.Join(hosts, "upstream.example", "hosts.toml"), fmt.Appendf(nil, "server = \"https://upstream.example\"\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", host))
	for _, name := range []string{lab.images.app, lab.images.multi} {
		ref := lab.images.digests[name]
		direct := place(host, name)
		out := run(t, "", "ctr", "-a", socket, "content", "fetch", "--plain-http", "--all-platforms", direct)
		if !strings.Contains(out, ref) {
			t.Errorf("containerd fetched %s without %s:\n%s", direct, ref, out)
		}
		upstream := "upstream.example" + strings.TrimPrefix(name, lab.host)
		out = run(t, "", "ctr", "-a", socket, "content", "fetch", "--hosts-dir", hosts, "--all-platforms", upstream)
		if !strings.Contains(out, ref) {
			t.Errorf("containerd fetched %s without %s:\n%s", upstream, ref, out)
		}
	}
}

// containerd starts a daemon of its own and returns its socket.
func containerd(t *testing.T) string {
	t.Helper()
	// Socket paths are short; a test's folder may not be.
	dir, err := os.MkdirTemp("", "ctd") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "c.sock")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n", filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	write(t, filepath.Join(dir, "config.toml"), []byte(config))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "containerd", "-c", filepath.Join(dir, "config.toml"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("containerd: %v\n%s", err, read(t, dir, "log"))
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for range 100 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("containerd made no socket:\n%s", read(t, dir, "log"))
	return ""
}
