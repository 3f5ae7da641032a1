package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install/action/internal/charts"
	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// target is what is asked of a cluster beside what Helm asks.
type target interface {
	// Apply applies server-side, see kube.Client.
	Apply(ctx context.Context, o *unstructured.Unstructured, opts kube.ApplyOptions) (kube.Outcome, error)
	// established waits until a CustomResourceDefinition serves.
	established(ctx context.Context, name string) error
	// found returns an object of the whole cluster, nil if it is not there.
	found(ctx context.Context, r Ref) (*unstructured.Unstructured, error)
	// look resolves namespaces and says which of the objects are not there.
	look(ctx context.Context, refs []Ref) (all, missing []Ref, err error)
	// unready says which workloads are not ready, and why.
	unready(ctx context.Context, refs []Ref) ([]workload, error)
	// try asks the server whether it would take an object, and changes nothing.
	try(ctx context.Context, t trial, release string) error
	// namespace says whether one is there; it makes it first where create says so.
	namespace(ctx context.Context, name string, create bool) (bool, error)
}

// session is Helm's view of one namespace. Its requests end when the context
// that it was opened with ends: Helm itself knows none.
type session struct {
	cfg     *action.Configuration
	cluster target
	// explain gives an error of the API a type; nil leaves it as it is.
	explain func(error) error
	// cleared forgets which kinds the cluster has.
	cleared func()
	// lookups answers templates; nil finds nothing.
	lookups *lookups
	// run names the run in what it records.
	run string
	// ahead is how far the server's clock is.
	ahead time.Duration
}

// now is the time by the server's clock: what others began is judged by it, for
// this machine's may be hours off.
func (s *session) now() time.Time { return time.Now().Add(s.ahead) }

type opener func(ctx context.Context, a arguments) (*session, error)

func (a Action) session(ctx context.Context, args arguments) (*session, error) {
	if a.open != nil {
		return a.open(ctx, args)
	}
	return open(ctx, kube.Config{Kubeconfig: args.Kubeconfig, Context: args.Context}, args.Namespace)
}

// open opens a cluster and reads what it can do.
func open(ctx context.Context, c kube.Config, namespace string) (*session, error) {
	client, err := kube.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	getter := &bound{RESTClientGetter: client.Getter(namespace), done: ctx}
	cfg, err := getter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", client.Server(), err)
	}
	disco, err := getter.ToDiscoveryClient()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", client.Server(), err)
	}
	caps, ahead, err := answered(ctx, client, disco)
	if err != nil {
		return nil, err
	}
	quiet := func(string, ...any) {}
	objects, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", client.Server(), err)
	}
	k := helmkube.New(getter)
	k.Log, k.Namespace = quiet, namespace
	secrets := driver.NewSecrets(records{clients.CoreV1().Secrets(namespace)})
	secrets.Log = quiet
	return &session{
		cfg: &action.Configuration{
			RESTClientGetter: getter, KubeClient: k, Releases: storage.Init(secrets), Capabilities: caps, Log: quiet,
		},
		cluster: &live{Client: client, release: namespace}, ahead: ahead,
		explain: client.Explain,
		cleared: func() { disco.Invalidate(); client.Reset() },
		lookups: &lookups{ctx: ctx, kinds: client, clients: objects, namespace: namespace},
	}, nil
}

// answered is capabilities and how far the server's clock is ahead, in half of the
// time that is left: somebody has to say what did not answer.
func answered(ctx context.Context, client *kube.Client, d discovery.CachedDiscoveryInterface) (*chartutil.Capabilities, time.Duration, error) {
	most := openTime
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, most, &kube.UnreachableError{
		Server: client.Server(), Reason: fmt.Sprintf("no answer within %s", most.Round(time.Second)),
	})
	defer cancel()
	caps, err := within(ctx, func() (*chartutil.Capabilities, error) { return capabilities(client, d) })
	if err != nil {
		return nil, 0, err
	}
	v, err := client.Version(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read the version of %s: %w", client.Server(), err)
	}
	return caps, v.Skew, nil
}

// capabilities is what charts see of a cluster.
func capabilities(client *kube.Client, d discovery.CachedDiscoveryInterface) (*chartutil.Capabilities, error) {
	version, err := d.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("read the version of %s: %w", client.Server(), client.Explain(err))
	}
	versions, err := action.GetVersionSet(d)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("read the kinds of %s: %w", client.Server(), client.Explain(err))
	}
	caps := &chartutil.Capabilities{
		KubeVersion: chartutil.KubeVersion{Version: version.GitVersion, Major: version.Major, Minor: version.Minor},
		APIVersions: versions, HelmVersion: chartutil.DefaultCapabilities.HelmVersion,
	}
	caps.HelmVersion.GoVersion = "" // what is rendered does not depend on our compiler
	return caps, nil
}

// bound binds every request to a context: Helm has no other way to be stopped.
type bound struct {
	genericclioptions.RESTClientGetter
	done context.Context //nolint:containedctx // it is the lifetime of the getter

	mu     sync.Mutex
	cached discovery.CachedDiscoveryInterface
}

// openTime bounds the first questions to a cluster.
const openTime = time.Minute

func (b *bound) ToRESTConfig() (*rest.Config, error) {
	cfg, err := b.RESTClientGetter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return lifetime{next, b.done} })
	return cfg, nil
}

func (b *bound) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cached != nil {
		return b.cached, nil
	}
	cfg, err := b.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	b.cached = memory.NewMemCacheClient(d)
	return b.cached, nil
}

func (b *bound) ToRESTMapper() (meta.RESTMapper, error) {
	d, err := b.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(d), d, nil), nil
}

type lifetime struct {
	next http.RoundTripper
	done context.Context //nolint:containedctx // see bound
}

// RoundTrip ends a request, and the stream of a watch, with the session.
func (l lifetime) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := context.Cause(l.done); err != nil { //nolint:contextcheck // both lifetimes count
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(l.done, func() { cancel(context.Cause(l.done)) }) //nolint:contextcheck // both lifetimes count
	resp, err := l.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		stop()
		cancel(nil)
		return nil, err
	}
	resp.Body = &closing{resp.Body, func() { stop(); cancel(nil) }}
	return resp, nil
}

// closing is an answer whose end ends what watches over it.
type closing struct {
	io.ReadCloser
	end func()
}

func (c *closing) Close() error {
	err := c.ReadCloser.Close()
	c.end()
	return err
}

// view is what templates see.
func (s *session) view(revision int, upgrade bool) *chart.Cluster {
	c := &chart.Cluster{Capabilities: s.cfg.Capabilities, Revision: revision, Upgrade: upgrade}
	if s.lookups != nil {
		c.Lookup = s.lookups
	}
	return c
}

// history lists the revisions of a release, the oldest first.
func (s *session) history(name string) ([]*release.Release, error) {
	list, err := s.cfg.Releases.History(name)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		if s.explain != nil {
			err = s.explain(err)
		}
		return nil, fmt.Errorf("read the history of release %s: %w", name, err)
	}
	sortRevisions(list)
	return list, nil
}

// Labels of a release as Airlock records it. Helm copies labels from one revision
// to the next, so they say something of a revision only if it is the one named.
const (
	labelChart    = "airlock-chart"    // the first 60 digits of the digest of the chart's archive
	labelRevision = "airlock-revision" // the revision that Airlock made
	labelRendered = "airlock-rendered" // as what: install, or the number of an upgrade
	labelOrigin   = "airlock-origin"   // on every revision since an installation by Airlock
	labelRun      = "airlock-run"      // a random name of the run that made the revision
)

// installed is what labelRendered says of an installation, which Helm renders as
// revision 1 whatever number it gets.
const installed = "install"

// labels are those of the revision that a job makes.
func (j *job) labels() map[string]string {
	if j.d.mode == modeUpgrade {
		return map[string]string{labelChart: j.p.sum(), labelRendered: ""} // the recorder knows the number
	}
	return map[string]string{labelChart: j.p.sum(), labelRendered: installed, labelOrigin: installed}
}

// sum is the digest of the chart's archive as a label holds it.
func (p *prepared) sum() string { return p.digest.Encoded()[:60] }

// rendered says as what revision templates saw a recorded one; ok is false if
// Airlock did not record it. A rollback brings the labels of its source along.
func rendered(r *release.Release) (revision int, upgrade, ok bool) {
	switch text := r.Labels[labelRendered]; text {
	case "":
		return 0, false, false
	case installed:
		return 1, false, true
	default:
		n, err := strconv.Atoi(text)
		return n, true, err == nil
	}
}

// ours says whether Airlock made a revision.
func ours(r *release.Release) bool { return r.Labels[labelRevision] == strconv.Itoa(r.Version) }

// foreign says whether others installed a release, Airlock having upgraded it or
// not. Helm hands labels on from one revision to the next, so neither an upgrade by
// others nor the end of old revisions changes the answer.
func foreign(history []*release.Release) bool {
	return !slices.ContainsFunc(history, func(r *release.Release) bool { return r.Labels[labelOrigin] != "" })
}

// recorder relocates the hooks of a release when Helm records it, which it does
// before it runs the first: its post-renderer is never shown hooks. So they are
// in the record as they are in the cluster, and a rollback by the stock helm uses
// the enclave's images too.
type recorder struct {
	driver.Driver
	p   *prepared // nil relocates nothing
	run string
}

// Create implements driver.Creator.
func (r *recorder) Create(key string, rel *release.Release) error {
	if r.p != nil {
		for _, h := range rel.Hooks {
			moved, err := charts.Stream(h.Manifest, r.p.a.Map, r.p.a.Ignore)
			if err != nil {
				return fmt.Errorf("hook %s: %w", h.Path, err)
			}
			h.Manifest = moved
		}
	}
	labels := make(map[string]string)
	maps.Copy(labels, rel.Labels)
	labels[labelRevision] = strconv.Itoa(rel.Version)
	labels[labelRun] = r.run
	if r.p != nil && labels[labelRendered] != installed {
		labels[labelRendered] = strconv.Itoa(rel.Version)
	}
	rel.Labels = labels
	return r.Driver.Create(key, rel)
}

// record lets Helm record releases through a recorder.
func (s *session) record(p *prepared) {
	if r, ok := s.cfg.Releases.Driver.(*recorder); ok {
		r.p = p
		return
	}
	s.cfg.Releases.Driver = &recorder{Driver: s.cfg.Releases.Driver, p: p, run: s.run}
	s.cfg.Releases.MaxHistory = maxHistory
}
