//go:build all

package readers

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// password opens every private key of these tests.
const password = "correct horse"

// programs must be in PATH; make test-all sees to it.
var programs = []string{"containerd", "cosign", "crane", "ctr", "helm", "openssl", "oras", "sh", "sha256sum", "skopeo", "tar", "zstd"}

// lab is what the tests share and only read: the binary and one signed bundle
// that it made of images in a registry, a chart, files and stand-in tools.
var lab *laboratory

type laboratory struct {
	dir    string
	host   string // the registry the images came from
	bundle string
	key    string // made by airlock keygen, opened by password
	pub    string
	images images
}

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "readers:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return 0, fmt.Errorf("%w; run make test-all, which builds or names it", err)
		}
	}
	dir, err := os.MkdirTemp("", "airlock-readers-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin := filepath.Join(dir, "bin")
	if err := build(bin); err != nil {
		return 0, err
	}
	if err := hermetic(dir, bin); err != nil {
		return 0, err
	}
	reg := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	defer func() { err = errors.Join(err, reg.Close()) }()
	s := httptest.NewServer(reg)
	defer s.Close()
	if lab, err = newLaboratory(context.Background(), dir, s.Listener.Addr().String()); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// build makes the airlock binary as "make build" does, so that its compiled
// packages are shared with it.
func build(bin string) error {
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(bin, "airlock"), "./cmd/airlock")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build airlock: %w\n%s", err, out)
	}
	return nil
}

// hermetic gives every program started from here an empty home, the password
// of the keys, and proxies where nothing listens.
func hermetic(dir, bin string) error {
	env := map[string]string{
		"PATH":                 bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME":                 filepath.Join(dir, "home"),
		"AIRLOCK_KEY_PASSWORD": password,
		"COSIGN_PASSWORD":      password,
		"SOURCE_DATE_EPOCH":    "1767323045",
		"NO_COLOR":             "1",
		"NO_PROXY":             "127.0.0.1,localhost",
		"HTTP_PROXY":           "http://127.0.0.1:1",
		"HTTPS_PROXY":          "http://127.0.0.1:1",
	}
	for k, v := range env {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
		if strings.HasSuffix(k, "_PROXY") {
			if err := os.Setenv(strings.ToLower(k), v); err != nil {
				return err
			}
		}
	}
	for _, k := range []string{"XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"} {
		if err := os.Unsetenv(k); err != nil {
			return err
		}
	}
	return os.Mkdir(env["HOME"], 0o700)
}
