// Package plane runs a Kubernetes control plane as processes of one binary,
// kubebox, that `make cluster` builds: etcd, the API server, the controllers
// and the scheduler. It needs no privileges. Package cluster makes of it what
// tests use; the program box adds a node with a container runtime.
package plane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Services is the range of the addresses of Services, and ServiceIP that of the
// API server in it.
const (
	Services  = "10.96.0.0/16"
	ServiceIP = "10.96.0.1"
)

// patience bounds the start of one part. On an idle machine the API server is
// ready after three seconds.
const patience = 3 * time.Minute

// Options say where the control plane runs.
type Options struct {
	Program string   // kubebox
	Dir     string   // keys, logs and data; an existing directory
	Logs    string   // "": Dir
	Address string   // where the API server listens; "": 127.0.0.1
	Port    int      // of the API server; 0: a free one
	API     []string // further flags of the API server
}

// Plane is a running control plane.
type Plane struct {
	Kubeconfig string // of an administrator; a file
	Server     string // URL of the API server
	*Group

	o  Options
	ca *authority
}

// Program finds kubebox.
func Program() (string, error) {
	path, err := exec.LookPath("kubebox")
	if err == nil {
		return filepath.Abs(path)
	}
	// A test's own directory is its package; the program lies at the top.
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".cache", "bin", "kubebox")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("kubebox is neither in PATH nor in .cache/bin: build it with `make cluster`, which takes some ten minutes the first time")
}

// Start starts a control plane and returns when its API server is ready. Where
// another process takes one of the ports first, it tries again with others.
func Start(ctx context.Context, o Options) (*Plane, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	if o.Logs == "" {
		o.Logs = o.Dir
	}
	for attempt := 1; ; attempt++ {
		p := &Plane{o: o, Group: NewGroup(o.Logs)}
		err := p.start(ctx)
		if err == nil {
			return p, nil
		}
		p.Close()
		if attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("start control plane: %w", err)
		}
		if err := os.RemoveAll(p.file("etcd")); err != nil {
			return nil, fmt.Errorf("start control plane: %w", err)
		}
	}
}

func (p *Plane) start(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	port := ports[2]
	if p.o.Port != 0 {
		port = p.o.Port
	}
	p.Server = fmt.Sprintf("https://%s", net.JoinHostPort(p.o.Address, fmt.Sprint(port)))
	err = p.writeKeys([]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "127.0.0.1", p.o.Address, ServiceIP})
	if err != nil {
		return err
	}
	etcd, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	err = p.Start("etcd", p.o.Program, "etcd", "--data-dir="+p.file("etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync", "--log-level=warn")
	if err != nil {
		return err
	}
	if err := p.Start("kube-apiserver", p.o.Program, p.apiFlags(etcd, port)...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.Until(ctx, "the API server", p.ready()); err != nil {
		return err
	}
	return p.startControllers()
}

func (p *Plane) apiFlags(etcd string, port int) []string {
	flags := []string{
		"kube-apiserver", "--etcd-servers=" + etcd, "--bind-address=" + p.o.Address, "--advertise-address=" + p.o.Address, fmt.Sprintf("--secure-port=%d", port),
		"--service-cluster-ip-range=" + Services, "--tls-cert-file=" + p.file("server.crt"), "--tls-private-key-file=" + p.file("server.key"),
		"--client-ca-file=" + p.file("ca.crt"), "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + p.file("sa.key"),
		"--service-account-signing-key-file=" + p.file("sa.key"),
		// `kubectl logs` must not look up the node's name.
		"--kubelet-preferred-address-types=InternalIP",
	}
	if !slices.ContainsFunc(p.o.API, func(f string) bool { return strings.HasPrefix(f, "--authorization-mode=") }) {
		flags = append(flags, "--authorization-mode=RBAC") // given twice it would add
	}
	if ip := net.ParseIP(p.o.Address); ip != nil && ip.IsLoopback() {
		// Endpoints on a loopback address are refused, so there are none.
		flags = append(flags, "--endpoint-reconciler-type=none")
	}
	return append(flags, p.o.API...)
}

// startControllers starts what makes the cluster move. Neither serves anything:
// nobody asks them, and two ports fewer can be taken.
func (p *Plane) startControllers() error {
	common := []string{
		"--kubeconfig=" + p.Kubeconfig, "--authentication-kubeconfig=" + p.Kubeconfig, "--authorization-kubeconfig=" + p.Kubeconfig,
		"--leader-elect=false", "--secure-port=0",
	}
	err := p.Start("kube-controller-manager", p.o.Program, append([]string{
		"kube-controller-manager", "--service-account-private-key-file=" + p.file("sa.key"), "--root-ca-file=" + p.file("ca.crt"),
		"--cluster-signing-cert-file=" + p.file("ca.crt"), "--cluster-signing-key-file=" + p.file("ca.key"),
	}, common...)...)
	if err != nil {
		return err
	}
	return p.Start("kube-scheduler", p.o.Program, append([]string{"kube-scheduler"}, common...)...)
}

// ready asks the API server whether it is.
func (p *Plane) ready() func(context.Context) error {
	pool := x509.NewCertPool()
	pool.AddCert(p.ca.cert)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true,
	}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Server+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("GET /readyz: %s", res.Status)
		}
		return nil
	}
}

// freePorts returns ports of 127.0.0.1 that nobody listens on now.
func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end, so that all differ
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("listen on 127.0.0.1: unexpected address %s", l.Addr())
		}
		out = append(out, addr.Port)
	}
	return out, nil
}
