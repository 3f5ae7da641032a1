package helm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/airlock-project/airlock/install/internal/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// lookups answers the lookups of templates and remembers those of other
// namespaces than the release's own: what a template reads there, it may put
// anywhere. It implements engine.ClientProvider.
type lookups struct {
	ctx       context.Context //nolint:containedctx // the session's: templates know none
	kinds     *kube.Client
	clients   dynamic.Interface
	namespace string

	mu   sync.Mutex
	seen []string
}

// GetClientFor implements engine.ClientProvider.
func (l *lookups) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	m, err := l.kinds.Mapping(l.ctx, schema.FromAPIVersionAndKind(apiVersion, kind))
	if err != nil {
		return nil, false, err
	}
	namespaced := m.Scope.Name() == "namespace"
	return looked{l.clients.Resource(m.Resource), l, kind, namespaced}, namespaced, nil
}

func (l *lookups) note(kind, namespace, name string) {
	if namespace == l.namespace {
		return
	}
	what := fmt.Sprintf("%s %s/%s", kind, cmp.Or(namespace, "*"), cmp.Or(name, "*"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, known := slices.BinarySearch(l.seen, what); !known {
		l.seen = slices.Insert(l.seen, i, what)
	}
}

// foreign lists them, each once, sorted.
func (l *lookups) foreign() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.seen)
}

// looked is a client that says what it is asked for.
type looked struct {
	dynamic.NamespaceableResourceInterface
	l          *lookups
	kind       string
	namespaced bool
}

// Namespace is where a named lookup begins.
func (k looked) Namespace(ns string) dynamic.ResourceInterface {
	return lookedIn{k.NamespaceableResourceInterface.Namespace(ns), k, ns}
}

// List is a lookup in all namespaces, or of what has none.
func (k looked) List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	if k.namespaced {
		k.l.note(k.kind, "", "")
	}
	return k.NamespaceableResourceInterface.List(ctx, o)
}

type lookedIn struct {
	dynamic.ResourceInterface
	k  looked
	ns string
}

// Get notes and reads one.
func (w lookedIn) Get(ctx context.Context, name string, o metav1.GetOptions, sub ...string) (*unstructured.Unstructured, error) {
	w.k.l.note(w.k.kind, w.ns, name)
	return w.ResourceInterface.Get(ctx, name, o, sub...)
}

// List notes and reads all of a namespace.
func (w lookedIn) List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	w.k.l.note(w.k.kind, w.ns, "")
	return w.ResourceInterface.List(ctx, o)
}
