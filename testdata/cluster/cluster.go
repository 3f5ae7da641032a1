// Package cluster runs a real Kubernetes API for tests: etcd, the API server
// with its validation, admission, server-side apply, CRDs and RBAC, the
// controllers and the scheduler. It takes about five seconds, 0.8 GiB and no
// privileges.
//
// Pods do not run. A fake node in the test's process pulls each image of a pod
// from the mirror that the test names, checks every layer, and only then
// reports the container as running, so an image that was not mirrored, or a
// wrong pull secret, ends as on a real node. How a container fares after that
// is decided by annotations of its pod: see Outcome.
//
// Start a cluster once per test package, in TestMain by Main, and give each test
// a Namespace. Tests that use it have the build tag all, because the program
// kubebox must have been built (`make cluster`).
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/airlock-project/airlock/testdata/cluster/plane"
)

// Options say what a cluster has.
type Options struct {
	// Node adds the fake node. Without it pods stay pending.
	Node bool
	// Mirror, "host:port", is asked for every image, whatever registry a
	// reference names, as a node does whose container runtime has a mirror for
	// all. It is spoken to in plain HTTP. "": every image is missing.
	Mirror string
	// API are further flags of the API server.
	API []string
}

// Cluster is a running cluster.
type Cluster struct {
	Kubeconfig string // of an administrator; a file
	Clientset  *kubernetes.Clientset
	REST       *rest.Config
	Server     string // URL of the API server

	dir   string
	plane *plane.Plane
	node  *node
}

// Run starts a cluster, which the caller closes.
func Run(o Options) (*Cluster, error) {
	program, err := plane.Program()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "airlock-cluster-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	if err := c.run(o, program); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) run(o Options, program string) error {
	ctx := context.Background() // every wait in it is bounded
	var err error
	if c.plane, err = plane.Start(ctx, plane.Options{Program: program, Dir: c.dir, API: o.API}); err != nil {
		return err
	}
	c.Kubeconfig, c.Server = c.plane.Kubeconfig, c.plane.Server
	if c.REST, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return err
	}
	c.REST.QPS, c.REST.Burst = 200, 400
	if c.Clientset, err = kubernetes.NewForConfig(c.REST); err != nil {
		return err
	}
	if !o.Node {
		return nil
	}
	if c.node, err = startNode(ctx, c.Clientset, o.Mirror); err != nil {
		return err
	}
	// The controllers take away the taint of a node that is not ready.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.plane.Until(ctx, "the node", c.untainted)
}

func (c *Cluster) untainted(ctx context.Context) error {
	n, err := c.Clientset.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, t := range n.Spec.Taints {
		return fmt.Errorf("node %s has the taint %s", n.Name, t.Key)
	}
	return nil
}

// Close kills the cluster and removes what it wrote.
func (c *Cluster) Close() error {
	if c.node != nil {
		c.node.close()
	}
	if c.plane != nil {
		c.plane.Close()
	}
	return os.RemoveAll(c.dir)
}

// Start starts a cluster that ends with the test.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Main runs the tests of a package with one cluster for all of them and
// returns the exit code for os.Exit. It sets *at before the tests run.
func Main(m *testing.M, at **Cluster, o Options) int {
	c, err := Run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*at = c
	code := m.Run()
	if err := c.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Tails returns the last lines of the logs of the cluster's processes.
func (c *Cluster) Tails() string { return c.plane.Tails() }

var notLabel = regexp.MustCompile(`[^a-z0-9]+`)

// Namespace makes a namespace with a name like the test's, waits until pods can
// be made in it, and deletes it when the test ends.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	prefix := strings.Trim(notLabel.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	prefix = prefix[:min(len(prefix), 40)]
	ns, err := c.Clientset.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Clientset.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = c.plane.Until(ctx, "the service account of "+ns.Name, func(ctx context.Context) error {
		if _, err := c.Clientset.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := c.Clientset.CoreV1().ConfigMaps(ns.Name).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// User returns the kubeconfig of a user who may do what the rules say, in every
// namespace, and nothing else beside what all authenticated users may.
func (c *Cluster) User(t testing.TB, name string, rules ...rbacv1.PolicyRule) string {
	t.Helper()
	role, err := c.Clientset.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-user-"}, Rules: rules,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Clientset.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		err := errors.Join(c.Clientset.RbacV1().ClusterRoleBindings().Delete(ctx, role.Name, metav1.DeleteOptions{}),
			c.Clientset.RbacV1().ClusterRoles().Delete(ctx, role.Name, metav1.DeleteOptions{}))
		if err != nil {
			t.Error(err)
		}
	})
	return c.kubeconfig(t, name)
}

// UserIn is User for one namespace.
func (c *Cluster) UserIn(t testing.TB, name, namespace string, rules ...rbacv1.PolicyRule) string {
	t.Helper()
	role, err := c.Clientset.RbacV1().Roles(namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-user-"}, Rules: rules,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Clientset.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c.kubeconfig(t, name)
}

func (c *Cluster) kubeconfig(t testing.TB, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.plane.WriteKubeconfig(path, user); err != nil {
		t.Fatal(err)
	}
	return path
}
