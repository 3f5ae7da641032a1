//go:build all

package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	helmaction "github.com/airlock-project/airlock/install/action/helm"
	"github.com/airlock-project/airlock/install/probe/kube"
	"github.com/airlock-project/airlock/testdata/cluster"
	"github.com/airlock-project/airlock/testdata/pki"
	cmp2 "github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
)

// right is a verb on a resource: in a namespace or the whole cluster, on one
// object or all.
type right struct {
	verb, resource  string // resource is plural.group/subresource
	namespace, name string
}

func (r right) String() string {
	return strings.TrimSpace(r.verb+" "+r.resource+" "+r.name) + " in " + cmp.Or(r.namespace, "the whole cluster")
}

// covers says whether who has r may do what o says.
func (r right) covers(o right) bool {
	return r.verb == o.verb && r.resource == o.resource && (r.namespace == "" || r.namespace == o.namespace) && (r.name == "" || r.name == o.name)
}

// rightsBox is a cluster that remembers what each user wanted of it.
type rightsBox struct {
	*cluster.Cluster
	host string // of the mirror
	sum  string // of every image in it

	mu    sync.Mutex
	used  map[string]map[right]bool // by user
	users int
}

// newRightsBox starts a cluster. Its authorizer asks a webhook first, which has
// no opinion and writes down what was asked: requests, and what the API server
// asks beside, such as whether what is not there yet may be made.
func newRightsBox(t *testing.T) *rightsBox {
	t.Helper()
	b := &rightsBox{used: make(map[string]map[right]bool)}
	hook := httptest.NewServer(http.HandlerFunc(b.authorize))
	t.Cleanup(hook.Close)
	config := filepath.Join(t.TempDir(), "authorizer")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n", hook.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mirror := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(mirror.Close)
	b.host = strings.TrimPrefix(mirror.URL, "http://")
	b.Cluster = cluster.Start(t, cluster.Options{Node: true, Mirror: b.host, API: []string{
		"--authorization-mode=Webhook,RBAC", "--authorization-webhook-config-file=" + config, "--authorization-webhook-version=v1",
		"--authorization-webhook-cache-authorized-ttl=1ms", "--authorization-webhook-cache-unauthorized-ttl=1ms",
	}})
	return b
}

func (b *rightsBox) authorize(w http.ResponseWriter, r *http.Request) {
	var review authv1.SubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if a := review.Spec.ResourceAttributes; a != nil {
		b.mu.Lock()
		if b.used[review.Spec.User] == nil {
			b.used[review.Spec.User] = make(map[right]bool)
		}
		b.used[review.Spec.User][rightOf(*a)] = true
		b.mu.Unlock()
	}
	review.Status = authv1.SubjectAccessReviewStatus{Reason: "no opinion"}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // a server that left is told nothing
}

func rightOf(a authv1.ResourceAttributes) right {
	resource := a.Resource
	if a.Group != "" {
		resource += "." + a.Group
	}
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	return right{a.Verb, resource, a.Namespace, a.Name}
}

// wanted is what a user wanted of the cluster, but of the kinds about himself.
func (b *rightsBox) wanted(user string) []right {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []right
	for r := range b.used[user] {
		if !strings.HasSuffix(r.resource, ".authorization.k8s.io") || strings.Contains(r.resource, "rbac.") {
			out = append(out, r)
		}
	}
	return sorted(out)
}

func sorted(list []right) []right {
	slices.SortFunc(list, func(a, b right) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}

// user returns the name and kubeconfig of a new user with rights and more rules
// by namespace: Roles in the namespaces that are there, a ClusterRole for all else.
func (b *rightsBox) user(t *testing.T, rights []right, more map[string][]rbacv1.PolicyRule) (name, kubeconfig string) {
	t.Helper()
	b.users++
	name = fmt.Sprintf("user-%d", b.users)
	rules, last := make(map[string][]rbacv1.PolicyRule), make(map[string]right)
	for in, list := range more {
		in = b.place(t, in)
		rules[in] = append(rules[in], list...)
	}
	rules[""] = append(rules[""], rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/version"}}) // there is a ClusterRole
	for _, r := range rights {
		resource, sub, _ := strings.Cut(r.resource, "/")
		plural, group, _ := strings.Cut(resource, ".")
		if sub != "" {
			plural += "/" + sub
		}
		rule := rbacv1.PolicyRule{Verbs: []string{r.verb}, APIGroups: []string{group}, Resources: []string{plural}}
		if r.name != "" {
			rule.ResourceNames = []string{r.name}
		}
		in := b.place(t, r.namespace)
		rules[in] = append(rules[in], rule)
		last[in] = r
	}
	if len(rights) > 0 {
		last[""] = right{verb: "list", resource: "airlocks.example.org"} // of the ClusterRole, whatever else is in it
		rules[""] = append(rules[""], rbacv1.PolicyRule{Verbs: []string{"list"}, APIGroups: []string{"example.org"}, Resources: []string{"airlocks"}})
	}
	for in, list := range rules {
		if in == "" {
			kubeconfig = b.User(t, name, list...)
			continue
		}
		b.UserIn(t, name, in, list...)
	}
	// The API server takes a moment to learn of each role; what is in it comes
	// together.
	for _, r := range last {
		b.await(t, name, r)
	}
	b.mu.Lock() // that was only asked for the user
	defer b.mu.Unlock()
	delete(b.used, name)
	return name, kubeconfig
}

// place is where a role for a namespace is: in it, or in the whole cluster if it
// is not there yet.
func (b *rightsBox) place(t *testing.T, namespace string) string {
	t.Helper()
	if namespace == "" {
		return ""
	}
	_, err := b.Clientset.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}

func (b *rightsBox) await(t *testing.T, user string, r right) {
	t.Helper()
	resource, sub, _ := strings.Cut(r.resource, "/")
	plural, group, _ := strings.Cut(resource, ".")
	review := &authv1.SubjectAccessReview{Spec: authv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authv1.ResourceAttributes{
		Verb: r.verb, Resource: plural, Group: group, Subresource: sub, Namespace: r.namespace, Name: r.name,
	}}}
	for end := time.Now().Add(20 * time.Second); ; {
		got, err := b.Clientset.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("user %s may not %s", user, r)
		}
	}
}

// asked is what a finding of the preflight says is missing.
func asked(f install.Finding) right {
	resource, name, _ := strings.Cut(f.Fields["resource"], " ")
	return right{f.Fields["verb"], resource, f.Fields["namespace"], name}
}

// preflight is the item that asks for rights, as a site has it.
type preflight struct {
	probe install.Probe
	in    install.Input
}

// catch runs the item as a user and keeps how it asked.
func catch(t *testing.T, r row, kubeconfig string) (*preflight, []right) {
	t.Helper()
	p, said := &preflight{}, []right(nil)
	r.item = "configure-kubectl-credentials"
	r.inputs = maps.Clone(r.inputs)
	r.inputs["k8s.kubeconfig"] = kubeconfig
	r.kinds = func(probes map[string]install.Probe, _ map[string]install.Action) {
		p.probe = probes["k8s.rbac"]
		probes["k8s.rbac"] = probeFunc{p.probe, func(ctx context.Context, in install.Input) (install.Result, error) {
			p.in = in
			res, err := p.probe.Run(ctx, in)
			for _, f := range res.Findings {
				if f.Code != "K8S-03" {
					t.Errorf("the preflight says: %+v", f)
					continue
				}
				said = append(said, asked(f))
			}
			return res, err
		}}
	}
	r.want, r.code = install.StateFail, "K8S-03"
	r.says = []string{"cluster administrator"}
	runRow(t, r)
	return p, sorted(said)
}

// probeFunc is a probe with another way to run.
type probeFunc struct {
	install.Probe
	run func(context.Context, install.Input) (install.Result, error)
}

func (p probeFunc) Run(ctx context.Context, in install.Input) (install.Result, error) {
	return p.run(ctx, in)
}

func (p probeFunc) Codes() map[string][]string { return kube.RBAC{}.Codes() }

// misses asks again as another user, and returns what is missing.
func (p *preflight) misses(t *testing.T, kubeconfig string) []right {
	t.Helper()
	in := p.in
	in.With = maps.Clone(in.With)
	in.With["kubeconfig"] = kubeconfig
	res, err := p.probe.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var out []right
	for _, f := range res.Findings {
		out = append(out, asked(f))
	}
	return sorted(out)
}

// rightsSite is a kind of site, with the rows that its rights are for.
type rightsSite struct {
	// spare are rights that no row here needs, each with the reason why it is
	// asked for.
	spare map[string]string
	// works are namespaces in which nothing fails, and "" for the whole cluster
	// where that holds for all.
	works []string
}

// check proves that a user who has what the preflight asks for can run the rows,
// that it asks for no more than they use, and that it names each right that is
// taken away. The rows get the user's kubeconfig.
func (b *rightsBox) check(t *testing.T, s rightsSite, first row, rows func(t *testing.T, kubeconfig, holder string)) {
	t.Helper()
	_, nobody := b.user(t, nil, nil)
	p, all := catch(t, first, nobody)
	if len(all) == 0 {
		t.Fatal("nothing is asked for")
	}
	for _, r := range all {
		for _, o := range all {
			if r != o && r.covers(o) {
				t.Errorf("%s is asked for beside %s", o, r)
			}
		}
	}
	first.item, first.inputs = "configure-kubectl-credentials", maps.Clone(first.inputs)
	_, first.inputs["k8s.kubeconfig"] = b.user(t, all, nil)
	// That nodes cannot be listed is said, and keeps nothing from going on.
	first.want, first.code, first.says = install.StateWarn, "K8S-03", []string{"list nodes", "cluster administrator"}
	if got := runRow(t, first); len(got.Findings) != 1 {
		t.Errorf("%+v", got.Findings)
	}
	user, kubeconfig := b.user(t, all, nil) // who has asked nothing yet
	b.each(t, p, all)
	holder, other := b.holder(t, p, all)
	rows(t, kubeconfig, other)
	got := append(b.wanted(user), b.wanted(holder)...)
	for _, u := range got {
		if !slices.ContainsFunc(all, func(a right) bool { return a.covers(u) }) && !explained(tried, u) {
			t.Errorf("used and not asked for: %s", u)
		}
	}
	for _, a := range all {
		if !slices.ContainsFunc(got, a.covers) && !explained(s.spare, a) && !explained(spare, a) && !(slices.Contains(s.works, a.namespace) && onFailure(a)) {
			t.Errorf("asked for and not used: %s", a)
		}
	}
}

// holder is a user who may not escalate or bind roles, and has
// all the rights that the roles of the site's charts give.
func (b *rightsBox) holder(t *testing.T, p *preflight, all []right) (name, kubeconfig string) {
	t.Helper()
	rights := slices.DeleteFunc(slices.Clone(all), func(r right) bool { return r.verb == "escalate" || r.verb == "bind" })
	rules := make(map[string][]rbacv1.PolicyRule)
	for _, c := range p.in.With["charts"].([]any) {
		with := c.(map[string]any)
		if with["when"] == false {
			continue
		}
		in := p.in
		in.With = map[string]any{"kubeconfig": b.Kubeconfig, "chart": with["chart"], "namespace": with["namespace"], "values": with["values"]}
		objects, err := helmaction.Preview(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			raw, err := o.JSON()
			if err != nil {
				t.Fatal(err)
			}
			var role rbacv1.ClusterRole
			if o.Kind() != "ClusterRole" && o.Kind() != "Role" {
				continue
			}
			if err := json.Unmarshal(raw, &role); err != nil {
				t.Fatal(err)
			}
			rules[role.Namespace] = append(rules[role.Namespace], role.Rules...)
		}
	}
	_, asking := b.user(t, rights, rules)
	if got := p.misses(t, asking); len(got) > 0 {
		t.Errorf("who has what the charts give lacks %v", got)
	}
	return b.user(t, rights, rules) // who has asked nothing
}

// onFailure says whether a right is for releases that do not come up: these are
// removed, and it is said why.
func onFailure(r right) bool {
	return r.verb == "delete" || slices.Contains([]string{"list pods", "list events", "get pods/log", "get secrets"}, r.verb+" "+r.resource)
}

// explained finds a right among reasons: "list nodes", or with the namespace too.
func explained(reasons map[string]string, r right) bool {
	return reasons[r.String()] != "" || reasons[r.verb+" "+r.resource] != ""
}

// each takes rights away, every other one and then the rest: these are missing,
// and no others.
func (b *rightsBox) each(t *testing.T, p *preflight, all []right) {
	t.Helper()
	for odd := range 2 {
		var kept, taken []right
		for i, r := range all {
			if i%2 == odd {
				taken = append(taken, r)
			} else {
				kept = append(kept, r)
			}
		}
		// A role that has to be one of the whole cluster gives more than was asked.
		taken = slices.DeleteFunc(taken, func(gone right) bool {
			// A namespace that is there is not made.
			made := gone.verb == "create" && gone.resource == "namespaces" && b.place(t, gone.name) != "" && slices.Contains(kept, right{"get", "namespaces", gone.namespace, gone.name})
			return made || slices.ContainsFunc(kept, func(r right) bool {
				r.namespace = b.place(t, r.namespace)
				return r.covers(gone)
			})
		})
		_, kubeconfig := b.user(t, kept, nil)
		if got := p.misses(t, kubeconfig); !slices.Equal(got, taken) {
			t.Error(cmp2.Diff(taken, got, cmp2.AllowUnexported(right{})))
		}
	}
	_, kubeconfig := b.user(t, all, nil)
	if got := p.misses(t, kubeconfig); len(got) > 0 {
		t.Errorf("with all rights: missing are %v", got)
	}
}

// rightsTool is Airlock's own image, which pods of a probe have.
const rightsTool = "airlock:v0.0.0-test"

// mirror puts an image into the mirror for each reference, and returns the
// outputs of the rows before those about the cluster.
func (b *rightsBox) mirror(t *testing.T, kubeconfig string, images ...string) map[string]any {
	t.Helper()
	img, err := random.Image(512, 1)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	b.sum = sum.String()
	var entries []any
	for _, image := range append(images, "spacelift-backend:v4.3.0", rightsTool) {
		_, repository, ok := strings.Cut(image, "/")
		if !ok {
			repository = image
		}
		target := b.host + "/airlock/" + repository
		ref, err := name.ParseReference(target, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
		kind := "image"
		if image == rightsTool {
			kind = "tool"
		}
		entries = append(entries, map[string]any{"kind": kind, "source": image, "sourceDigest": b.sum, "target": target, "digest": b.sum})
	}
	given := backendGiven(kubeconfig, b.host, b.sum)
	given["relocation.map"].(map[string]any)["entries"] = entries
	return given
}

// reachable lets all admission webhooks lead to one that runs: pods do not.
func (b *rightsBox) reachable(t *testing.T, url, ca string) {
	t.Helper()
	bundle, err := base64.StdEncoding.DecodeString(ca)
	if err != nil {
		t.Fatal(err)
	}
	to := admissionv1.WebhookClientConfig{URL: &url, CABundle: bundle}
	admission := b.Clientset.AdmissionregistrationV1()
	validating, err := admission.ValidatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range validating.Items {
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig = to
		}
		if _, err := admission.ValidatingWebhookConfigurations().Update(t.Context(), &c, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mutating, err := admission.MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range mutating.Items {
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig = to
		}
		if _, err := admission.MutatingWebhookConfigurations().Update(t.Context(), &c, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// issue stands in for cert-manager, as clusterRows.manager does.
func (b *rightsBox) issue(t *testing.T, ca *pki.Authority) {
	t.Helper()
	d, err := dynamic.NewForConfig(b.REST)
	if err != nil {
		t.Fatal(err)
	}
	(&clusterRows{Cluster: b.Cluster, dynamic: d}).manager(t, ca)
}

// addresses hands out addresses to Services of the type LoadBalancer, for which
// Helm waits, in a namespace until the test ends.
func (b *rightsBox) addresses(t *testing.T, ip string) {
	t.Helper()
	tend(t, 200*time.Millisecond, func(ctx context.Context) {
		list, err := b.Clientset.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return
		}
		for _, s := range list.Items {
			if s.Spec.Type == corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) == 0 {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
				// What has just changed is seen at the next tick.
				_, _ = b.Clientset.CoreV1().Services(s.Namespace).UpdateStatus(ctx, &s, metav1.UpdateOptions{})
			}
		}
		routes, err := b.Clientset.NetworkingV1().Ingresses("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return
		}
		for _, o := range routes.Items {
			if len(o.Status.LoadBalancer.Ingress) == 0 {
				o.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: ip}}
				_, _ = b.Clientset.NetworkingV1().Ingresses(o.Namespace).UpdateStatus(ctx, &o, metav1.UpdateOptions{}) // or at the next tick
			}
		}
	})
}
