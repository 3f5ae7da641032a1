package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/airlock-project/airlock/testdata/cluster/appimage"
	"github.com/airlock-project/airlock/testdata/cluster/plane"
)

const (
	nodeName = "node1"
	nodeIP   = "10.200.0.2"
	socket   = "/run/containerd/containerd.sock"
	pause    = "airlock.test/pause:1"
)

// node starts the cluster inside the namespaces, says that it is ready and
// returns when one of its processes ends.
func (s *setup) node(ready *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), startup)
	defer cancel()
	if err := s.network(ctx); err != nil {
		return err
	}
	if err := s.files(); err != nil {
		return err
	}
	p, err := plane.Start(ctx, plane.Options{Program: s.Kubebox, Dir: s.in("plane"), Logs: s.Logs, Address: nodeIP, Port: 6443})
	if err != nil {
		return err
	}
	if err := s.agents(ctx, p); err != nil {
		return err
	}
	if err := p.Until(ctx, "the node", nodeReady(p.Kubeconfig)); err != nil {
		return err
	}
	if _, err := ready.WriteString("!"); err != nil {
		return err
	}
	_ = ready.Close()
	for {
		if err := p.Err(); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
}

// network gives the namespace a node's address and no way out: both ends of
// the cable are in it. The kubelet refuses an address of the loopback
// interface.
func (s *setup) network(ctx context.Context) error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "node0", "type", "veth", "peer", "name", "node1"},
		{"addr", "add", nodeIP + "/30", "dev", "node0"},
		{"link", "set", "node0", "up"},
		{"link", "set", "node1", "up"},
		// Without any route to a Service a connection ends before kube-proxy's
		// rules see it.
		{"route", "add", plane.Services, "dev", "node0"},
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w\n%s", args, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// files writes what the node's programs read.
func (s *setup) files() error {
	if err := makeDirs(s.in("plane"), s.in("cni"), s.in("certs.d/_default"), s.bin()); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"containerd.toml": s.containerd(), "certs.d/_default/hosts.toml": hosts, "cni/10-bridge.conflist": cni,
		"kubelet.yaml": s.kubelet(), "kube-proxy.yaml": s.proxy(),
	} {
		if err := os.WriteFile(s.in(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.Symlink(s.Kubebox, filepath.Join(s.bin(), "kubectl"))
}

// agents starts the container runtime and what makes a node of it.
func (s *setup) agents(ctx context.Context, p *plane.Plane) error {
	if err := p.Start("containerd", "containerd", "-c", s.in("containerd.toml")); err != nil {
		return err
	}
	err := p.Until(ctx, "containerd", func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, "ctr", "-a", socket, "version").CombinedOutput(); err != nil {
			return fmt.Errorf("ctr version: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// No registry has the image of the pods' first process: the node brings it.
	archive := s.in("pause.tar")
	if err := appimage.Write(archive, pause, s.app(), "pause"); err != nil {
		return fmt.Errorf("make image %s: %w", pause, err)
	}
	if out, err := exec.CommandContext(ctx, "ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive).CombinedOutput(); err != nil {
		return fmt.Errorf("import image %s: %w\n%s", pause, err, out)
	}
	err = p.Start("kubelet", s.Kubebox, "kubelet", "--kubeconfig="+p.Kubeconfig, "--config="+s.in("kubelet.yaml"), "--hostname-override="+nodeName, "--node-ip="+nodeIP)
	if err != nil {
		return err
	}
	return p.Start("kube-proxy", s.Kubebox, "kube-proxy", "--config="+s.in("kube-proxy.yaml"))
}

// nodeReady asks whether pods can be scheduled.
func nodeReady(kubeconfig string) func(context.Context) error {
	return func(ctx context.Context) error {
		rc, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return err
		}
		clients, err := kubernetes.NewForConfig(rc)
		if err != nil {
			return err
		}
		n, err := clients.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, t := range n.Spec.Taints {
			return fmt.Errorf("node %s has the taint %s", nodeName, t.Key)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("the node is not ready")
	}
}
