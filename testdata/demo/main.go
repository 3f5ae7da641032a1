// Command demo shows Airlock end to end on this machine, with a registry in
// process and no network: a vendor archive and a chart become one signed
// bundle, a tampered copy is refused, the images are mirrored, one is pulled
// straight out of the file, and the checklist is run.
//
// Stand-ins, made here: the product (two small Go programs as images), its
// vendor (an OpenPGP key made for this run), the chart, and the enclave's
// registry (olareg in this process). Everything airlock does is the real thing.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one run in a temporary folder.
type demo struct {
	dir string
	bin string
	env []string
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "airlock-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{dir: dir, bin: filepath.Join(dir, "bin", "airlock"), env: append(os.Environ(), "AIRLOCK_KEY_PASSWORD=demo", "NO_COLOR=1")}
	d.say("Everything below runs on this machine. Stand-ins: the product, its vendor's key, its chart, the registry.")
	if err := d.build(ctx); err != nil {
		return err
	}
	if err := d.product(ctx); err != nil {
		return err
	}
	registry, stop := startRegistry()
	defer stop()
	if err := d.outside(ctx); err != nil {
		return err
	}
	if err := d.tampered(ctx); err != nil {
		return err
	}
	if err := d.inside(ctx, registry); err != nil {
		return err
	}
	return d.served(ctx)
}

// build compiles airlock and the two stand-in programs.
func (d *demo) build(ctx context.Context) error {
	d.say("\nBuild airlock and the stand-in product")
	start := time.Now()
	if err := d.goBuild(ctx, d.bin, "./cmd/airlock"); err != nil {
		return err
	}
	for _, name := range []string{"backend", "launcher"} {
		if err := d.goBuild(ctx, filepath.Join(d.dir, "bin", name), "./testdata/demo/"+name); err != nil {
			return err
		}
	}
	d.say("built in %s", time.Since(start).Round(100*time.Millisecond))
	return nil
}

func (d *demo) goBuild(ctx context.Context, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}

// outside is the connected side.
func (d *demo) outside(ctx context.Context) error {
	d.say("\n== Connected side ==")
	for _, args := range [][]string{
		{"keygen", "--name", "release"},
		{"bundle", "create", "--key", "release.key"},
		{"bundle", "inspect", "demo-v1.0.0.tar.zst", "--key", "release.pub"},
	} {
		if err := d.airlock(ctx, 0, args...); err != nil {
			return err
		}
	}
	return nil
}

// tampered flips one byte of a copy.
func (d *demo) tampered(ctx context.Context) error {
	d.say("\n== A copy with one flipped byte is refused ==")
	data, err := os.ReadFile(d.path("demo-v1.0.0.tar.zst"))
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(d.path("tampered.tar.zst"), data, 0o600); err != nil {
		return err
	}
	return d.airlock(ctx, 12, "bundle", "verify", "tampered.tar.zst", "--key", "release.pub")
}

// inside is the enclave.
func (d *demo) inside(ctx context.Context, registry string) error {
	d.say("\n== Inside the gap ==")
	if err := d.site(registry); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"policy", "init", "--key", "release.pub"},
		{"bundle", "verify", "demo-v1.0.0.tar.zst"},
		{"mirror", "demo-v1.0.0.tar.zst", "--to", registry + "/airlock", "--plain-http", registry, "--relocation-map", "relocation.json"},
		{"bundle", "install", "demo-v1.0.0.tar.zst", "--site", "site.yaml", "--render-to", "rendered"},
		{"checklist", "verify", "--site", "site.yaml"},
	} {
		if err := d.airlock(ctx, 0, args...); err != nil {
			return err
		}
	}
	return d.show("rendered")
}

// show prints the image lines of what was rendered.
func (d *demo) show(dir string) error {
	d.say("\n$ grep -r image: %s", dir)
	return filepath.WalkDir(d.path(dir), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.dir, path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, "image:") {
				fmt.Printf("%s: %s\n", rel, strings.TrimSpace(line))
			}
		}
		return nil
	})
}

// served pulls an image out of the file.
func (d *demo) served(ctx context.Context) error {
	d.say("\n== A registry straight out of the file ==")
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	d.say("$ airlock serve demo-v1.0.0.tar.zst --listen %s &", addr)
	cmd := exec.CommandContext(ctx, d.bin, "serve", "demo-v1.0.0.tar.zst", "--listen", addr)
	cmd.Dir, cmd.Env = d.dir, d.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	pullErr := pull(ctx, addr)
	stopErr := cmd.Process.Signal(os.Interrupt)
	waitErr := cmd.Wait()
	fmt.Print(out.String())
	return errors.Join(pullErr, stopErr, waitErr)
}

// pull copies an image out of a registry with oras-go.
func pull(ctx context.Context, addr string) error {
	repo, err := remote.NewRepository(addr + "/demo-backend")
	if err != nil {
		return err
	}
	repo.PlainHTTP = true
	for i := range 50 {
		desc, err := oras.Copy(ctx, repo, "v1.0.0", memory.New(), "v1.0.0", oras.DefaultCopyOptions)
		if err == nil {
			fmt.Printf("pulled %s/demo-backend:v1.0.0 with oras-go: %s\n", addr, desc.Digest)
			return nil
		}
		if i == 49 {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// airlock runs a command, shows it with its output, and insists on its exit code.
func (d *demo) airlock(ctx context.Context, code int, args ...string) error {
	d.say("\n$ airlock %s", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = d.dir, d.env, os.Stdout, os.Stdout
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("airlock %s: exit code %d, want %d (%w)", args[0], got, code, err)
	}
	if code != 0 {
		d.say("exit code %d, as it should be", code)
	}
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// startRegistry runs the enclave's registry on loopback.
func startRegistry() (host string, stop func()) {
	s := httptest.NewServer(olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}}))
	return strings.TrimPrefix(s.URL, "http://"), s.Close
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// certificate writes a CA and a certificate for the site's host name.
func (d *demo) certificate(host string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "demo CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":  {Type: "CERTIFICATE", Bytes: caDER},
		"tls.crt": {Type: "CERTIFICATE", Bytes: leafDER},
		"tls.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(d.path(name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
