package objectstore

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startTime bounds how long a program may take until it listens.
const startTime = 60 * time.Second

// Versitygw starts versitygw over a directory, with versions, and returns
// host:port. It knows AccessKey and SecretKey.
func Versitygw(t testing.TB) string {
	t.Helper()
	dir, addr := t.TempDir(), freeAddress(t)
	for _, d := range []string{"root", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	start(t, addr, []string{"ROOT_ACCESS_KEY=" + AccessKey, "ROOT_SECRET_KEY=" + SecretKey},
		"versitygw", "--quiet", "--port", addr, "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "root"))
	return addr
}

// Minio starts MinIO and returns host:port. Its administrator has AccessKey and
// SecretKey; pages of origin may use it ("*" is its default).
func Minio(t testing.TB, origin string) string {
	t.Helper()
	addr := freeAddress(t)
	start(t, addr, []string{
		"MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey, "MINIO_API_CORS_ALLOW_ORIGIN=" + origin,
		"MINIO_UPDATE=off", "MINIO_BROWSER=off",
	}, "minio", "server", "--quiet", "--address", addr, t.TempDir())
	// It listens before it knows its users.
	poll(t, "minio", make(chan struct{}), func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/minio/health/ready", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK && resp.Header.Get("X-Minio-Server-Status") == ""
	})
	return addr
}

// FakeGCS starts fake-gcs-server and returns host:port; it speaks plain HTTP and
// checks no credentials.
func FakeGCS(t testing.TB) string {
	t.Helper()
	addr := freeAddress(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start(t, addr, nil, "fake-gcs-server", "-scheme", "http", "-host", host, "-port", port, "-backend", "memory", "-public-host", addr,
		"-external-url", "http://"+addr, "-cors-headers", "*")
	return addr
}

// Azurite starts Azurite's blob service with its well-known account and returns
// host:port.
func Azurite(t testing.TB) string {
	t.Helper()
	addr := freeAddress(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start(t, addr, nil, "azurite-blob", "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", t.TempDir(), "--blobHost", host, "--blobPort", port)
	return addr
}

// Nginx starts nginx as a proxy before an address, as it is without being told
// otherwise: it drops headers whose names have underscores. It returns host:port.
func Nginx(t testing.TB, upstream string) string {
	t.Helper()
	dir, addr := t.TempDir(), freeAddress(t)
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
  access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server {
    listen %[2]s; client_max_body_size 0;
    location / { proxy_pass http://%[3]s; proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_request_buffering off; }
  }
}
`, dir, addr, upstream)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, addr, nil, "nginx", "-c", path, "-e", filepath.Join(dir, "error.log"), "-p", dir)
	return addr
}

// freeAddress is an address on the loopback that nothing listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a program until the test is over, and waits until it listens. One
// that is not there fails the test.
func start(t testing.TB, addr string, env []string, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} { // where Debian has servers
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				path = filepath.Join(dir, name)
			}
		}
	}
	if path == "" {
		t.Fatalf("this test needs %s in PATH", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1"}, env...)
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s at %s: %s", name, addr, said.String())
		}
	})
	poll(t, name, ended, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// poll asks until ready is true; the test fails if the program ended before, or
// takes too long.
func poll(t testing.TB, name string, ended <-chan struct{}, ready func() bool) {
	t.Helper()
	deadline, again := time.After(startTime), time.NewTicker(50*time.Millisecond)
	defer again.Stop()
	for !ready() {
		select {
		case <-ended:
			t.Fatalf("%s ended", name)
		case <-deadline:
			t.Fatalf("%s is not ready after %s", name, startTime)
		case <-again.C:
		}
	}
}

// output keeps the first of what a program says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len() < 1<<16 {
		o.b.Write(p)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(o.b.String())
}
