//go:build all

package main

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/testdata/cluster"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// controller stands in for Argo CD or Flux: it builds a tree with kustomize and
// applies it server-side.
type controller struct {
	*dynamic.DynamicClient
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func newController(t *testing.T, c *cluster.Cluster) controller {
	t.Helper()
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	return controller{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Clientset.Discovery()))}
}

// sync applies a tree and returns what it applied.
func (c controller) sync(t *testing.T, dir string) []string {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range built.Resources() {
		tree, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: tree}
		m, err := c.mapper.RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		var target dynamic.ResourceInterface = c.Resource(m.Resource)
		if u.GetNamespace() != "" {
			target = c.Resource(m.Resource).Namespace(u.GetNamespace())
		}
		if _, err := target.Apply(t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "argocd-controller", Force: true}); err != nil {
			t.Fatalf("apply %s %s: %v", u.GetKind(), u.GetName(), err)
		}
		out = append(out, u.GetKind()+" "+u.GetName())
	}
	return out
}

// TestGitOpsCluster takes rows of the preset through a GitOps controller: Airlock
// may only look, writes the tree, and the rows pass when something else has
// applied it.
func TestGitOpsCluster(t *testing.T) {
	host, digest := backendMirror(t)
	box := cluster.Start(t, cluster.Options{Node: true, Mirror: host})
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}
	if _, err := box.Clientset.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const ns, password = "by-gitops", "password-of-the-puller"
	looker := box.User(t, "looker", rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}})
	r := row{
		item: "deploy-helm-chart", more: []bundle.Source{backendChart(t, nil)},
		inputs: map[string]any{"k8s.namespace": ns, "workers.kind": "docker", "hosts.server": netHost, "pull.username": "puller", "pull.password": password},
		given:  backendGiven(looker, host, digest),
	}
	c := rowChecklist(t, r)
	rows := []string{"create-kubernetes-namespace", "image-pull-credentials"}
	for _, it := range presetChecklist(t).Items {
		if slices.Contains(rows, it.ID) {
			it.Needs = []string{"given"}
			c.Items = slices.Insert(c.Items, len(c.Items)-1, it)
		}
	}
	for _, it := range c.Items[1:] { // what an item makes nobody gives
		for name := range it.Outputs {
			delete(c.Items[0].Outputs, name)
		}
	}
	c.Items[len(c.Items)-1].Needs = append([]string{"given"}, rows...)
	site, _ := rowSite(t, r, c)
	b := rowBundle(t, r, c)
	a := &app{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, output: "text"}
	site.Registry = &manifests.SiteRegistry{To: host + "/airlock", PlainHTTP: true}
	hosts, target, err := a.siteRegistry(t.Context(), site, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	// Before anything ran, a plan names objects.
	o := install.Options{Site: site, SiteDir: t.TempDir(), Actor: "tester", GitOps: true, Render: tree, DryRun: true}
	o.Probes, o.Actions = a.kinds(hosts, target, site)
	helmKinds(o.Probes, o.Actions, false)
	o.Actions["test.give"] = give(r.given)
	plan, err := install.Run(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Deployment " + ns + "/spacelift-server", "what is in them is known after given", "Namespace " + ns} {
		if !strings.Contains(plan.Text(), want) || strings.Contains(plan.Text(), "cannot be planned") {
			t.Errorf("the plan lacks %q:\n%s", want, plan.Text())
		}
	}
	run := func(want map[string]install.State) {
		t.Helper()
		o := install.Options{Site: site, SiteDir: t.TempDir(), State: state, Actor: "tester", GitOps: true, Render: tree, Resume: true}
		o.Probes, o.Actions = a.kinds(hosts, target, site)
		helmKinds(o.Probes, o.Actions, false)
		o.Actions["test.give"] = give(r.given)
		rep, err := install.Run(t.Context(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, ph := range rep.Phases {
			for _, it := range ph.Items {
				if w, ok := want[it.ID]; ok && it.State != w {
					t.Errorf("%s is %s (%s), want %s: %+v", it.ID, it.State, it.Reason, w, it.Findings)
				}
			}
		}
	}
	run(map[string]install.State{
		"create-kubernetes-namespace": install.StateWaiting, "image-pull-credentials": install.StateWaiting, "deploy-helm-chart": install.StateBlocked,
	})
	// One commit holds what is known, also of rows that wait; no Secret is in it.
	hidden := base64.StdEncoding.EncodeToString([]byte("puller:" + password))
	seen := 0
	if err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		in := strings.HasPrefix(path, filepath.Join(tree, "secrets")+string(filepath.Separator))
		docs := [][]byte{raw}
		for word := range bytes.FieldsSeq(raw) { // data of a Secret is base64 of base64
			if plain, err := base64.StdEncoding.DecodeString(string(word)); err == nil {
				docs = append(docs, plain)
			}
		}
		for _, doc := range docs {
			if bytes.Contains(doc, []byte(password)) || bytes.Contains(doc, []byte(hidden)) {
				if seen++; !in {
					t.Errorf("%s holds the password", path)
				}
			}
		}
		return err
	}); err != nil || seen == 0 {
		t.Fatalf("the password was found %d times, %v", seen, err)
	}
	argo := newController(t, box)
	// Secrets of other rows are given. Pods here start without them, and would be
	// older.
	if _, err := box.Clientset.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	backendSecrets(t, box, ns)
	applied := argo.sync(t, tree)
	for _, want := range []string{"Namespace " + ns, "Deployment spacelift-server", "Deployment spacelift-drain", "ConfigMap ingress"} {
		if !slices.Contains(applied, want) {
			t.Errorf("the tree lacks %s: %q", want, applied)
		}
	}
	// Secrets by a person who may.
	argo.sync(t, filepath.Join(tree, "secrets"))
	ready(t, box, ns, "spacelift-server", "spacelift-drain", "spacelift-scheduler")
	passed := map[string]install.State{
		"create-kubernetes-namespace": install.StatePass, "image-pull-credentials": install.StatePass, "deploy-helm-chart": install.StatePass,
	}
	run(passed)
	run(passed) // and nothing more is wanted
	if kept, err := install.KeptObjects(state); err != nil || len(kept) > 0 {
		t.Errorf("uninstall would remove %v, %v", kept, err)
	}
	for _, gvr := range []schema.GroupVersionResource{{Version: "v1", Resource: "namespaces"}, {Version: "v1", Resource: "secrets"}, {Group: "apps", Version: "v1", Resource: "deployments"}, {Version: "v1", Resource: "serviceaccounts"}} {
		list, err := argo.Resource(gvr).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			for _, m := range o.GetManagedFields() {
				if m.Manager == "airlock" { // the test itself is airlock.test
					t.Errorf("%s wrote %s %s", m.Manager, o.GetKind(), o.GetName())
				}
			}
		}
	}
	// Another password: that row waits, and what needs it.
	if err := os.WriteFile(strings.TrimPrefix(site.Inputs["pull.password"].(string), "file:"), []byte("another-password-of-the-puller"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(map[string]install.State{"create-kubernetes-namespace": install.StatePass, "image-pull-credentials": install.StateWaiting})
	argo.sync(t, filepath.Join(tree, "secrets"))
	run(passed)
}

// ready waits until the deployments run, as a controller reports it.
func ready(t *testing.T, c *cluster.Cluster, ns string, names ...string) {
	t.Helper()
	for _, name := range names {
		w, err := c.Clientset.AppsV1().Deployments(ns).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		late := time.After(2 * time.Minute)
		for done := false; !done; {
			d, err := c.Clientset.AppsV1().Deployments(ns).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if done = d.Status.ReadyReplicas == *d.Spec.Replicas && d.Status.ObservedGeneration == d.Generation; done {
				break
			}
			select {
			case <-w.ResultChan():
			case <-late:
				t.Fatalf("deployment %s is not ready: %+v", name, d.Status)
			}
		}
	}
}
