package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// shelf is an API server with many deployments d0, d1 …, of which only metadata is
// given out, a page at a time.
type shelf struct {
	objects int
	asked   int
	gone    func(asked int) bool // answers 410
	next    func(from int) string
	page    func() // called before each page
	each    func(*metav1.ObjectMeta)
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked++
	if s.page != nil {
		s.page()
	}
	q := r.URL.Query()
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
		answer(w, 406, failure(406, "NotAcceptable", "metadata only"))
		return
	}
	if s.gone != nil && s.gone(s.asked) {
		answer(w, 410, failure(410, metav1.StatusReasonExpired, "the provided continue parameter is too old"))
		return
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	from, _ := strconv.Atoi(q.Get("continue"))
	list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"}}
	for i := from; i < min(from+limit, s.objects); i++ {
		list.Items = append(list.Items, metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"},
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprint("d", i), Namespace: "n", Annotations: map[string]string{"text": strings.Repeat("x", 500)},
			},
		})
	}
	for i := range list.Items {
		if s.each != nil {
			s.each(&list.Items[i].ObjectMeta)
		}
	}
	switch {
	case s.next != nil:
		list.Continue = s.next(from)
	case limit > 0 && from+limit < s.objects:
		list.Continue = strconv.Itoa(from + limit)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

func (s *shelf) open(t *testing.T) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET /apis/apps/v1/namespaces/n/deployments", s)
	return open(t, mux)
}

func called(names ...string) func(*metav1.ObjectMeta) bool {
	return func(o *metav1.ObjectMeta) bool { return slices.Contains(names, o.Name) }
}

// TestFind reads a list to its end, and no further than is needed.
func TestFind(t *testing.T) {
	t.Parallel()
	s := &shelf{objects: 2*findPage + 1}
	got, err := s.open(t).Find(t.Context(), deployments, "n", called("d1", "d2000"), 0)
	if err != nil || !slices.Equal(got, []string{"d1", "d2000"}) || s.asked != 3 {
		t.Errorf("%v, %v after %d requests", got, err, s.asked)
	}
	s.asked = 0
	if got, err = s.open(t).Find(t.Context(), deployments, "n", called("d1", "d2000"), 1); err != nil || len(got) != 1 || s.asked != 1 {
		t.Errorf("the first: %v, %v after %d requests", got, err, s.asked)
	}
	if got, err = s.open(t).Find(t.Context(), deployments, "n", called(), 0); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	s.objects = maxFound + 1
	_, err = s.open(t).Find(t.Context(), deployments, "n", func(*metav1.ObjectMeta) bool { return true }, 0)
	if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), "more than 5000") {
		t.Errorf("too many: %v", err)
	}
}

// TestFindEndless: a list whose pages never end does.
func TestFindEndless(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(int) string{
		"the same": func(int) string { return "0" },
		"others":   func(from int) string { return strconv.Itoa(from + 1_000_000) }, // beyond all objects: empty pages
	} {
		s := &shelf{objects: 10, next: next}
		_, err := s.open(t).Find(t.Context(), deployments, "n", called(), 0)
		if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), "no end") || s.asked != maxFindPages {
			t.Errorf("%s: %v after %d requests", name, err, s.asked)
		}
	}
}

// TestFindGone: a server that forgets its list in the middle is asked from the
// beginning, once.
func TestFindGone(t *testing.T) {
	t.Parallel()
	s := &shelf{objects: 2*findPage + 1, gone: func(n int) bool { return n == 2 }}
	got, err := s.open(t).Find(t.Context(), deployments, "n", called("d1", "d2000"), 0)
	if err != nil || !slices.Equal(got, []string{"d1", "d2000"}) || s.asked != 5 {
		t.Errorf("%v, %v after %d requests", got, err, s.asked)
	}
	s = &shelf{objects: 2*findPage + 1, gone: func(n int) bool { return n%2 == 0 }}
	if got, err = s.open(t).Find(t.Context(), deployments, "n", called("d1"), 0); err == nil || s.asked != 4 {
		t.Errorf("again and again: %v, %v after %d requests", got, err, s.asked)
	}
}

// TestFindMany keeps one page of 100,000 objects in memory, not all.
func TestFindMany(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	s := &shelf{objects: 100_000}
	c := s.open(t)
	before, most := heap(), uint64(0)
	s.page = func() {
		if s.asked%10 == 0 {
			most = max(most, heap())
		}
	}
	got, err := c.Find(t.Context(), deployments, "n", called("d0", "d99999"), 0)
	if err != nil || !slices.Equal(got, []string{"d0", "d99999"}) {
		t.Fatal(got, err)
	}
	used := int64(most) - int64(before) //nolint:gosec // sizes of a heap
	t.Logf("%d pages, at most %d KiB more than before", s.asked, used>>10)
	if used > 24<<20 { // all would be 70 MB
		t.Errorf("%d bytes are held", used)
	}
}

// TestHoldsPages: what others keep in a namespace is seen behind any number of
// objects that go with their owners.
func TestHoldsPages(t *testing.T) {
	t.Parallel()
	s := &shelf{objects: findPage + 500, each: func(o *metav1.ObjectMeta) {
		if o.Name != "d1400" {
			o.OwnerReferences = []metav1.OwnerReference{{Kind: "Team", Name: "x"}}
		}
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis", func(w http.ResponseWriter, _ *http.Request) {
		v := metav1.GroupVersionForDiscovery{GroupVersion: "apps/v1", Version: "v1"}
		answer(w, 200, metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "apps", Versions: []metav1.GroupVersionForDiscovery{v}}}})
	})
	mux.HandleFunc("GET /apis/apps/v1", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, metav1.APIResourceList{GroupVersion: "apps/v1", APIResources: []metav1.APIResource{
			{Name: "deployments", Kind: "Deployment", Namespaced: true, Verbs: metav1.Verbs{"list"}},
		}})
	})
	mux.Handle("GET /apis/apps/v1/namespaces/n/deployments", s)
	if got, err := open(t, mux).Holds(t.Context(), "n", nil); err != nil || got != "deployments.apps n/d1400" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCommon: what is in every namespace, or goes with an owner, is nobody's loss;
// a token that somebody made for an account of his own is.
func TestCommon(t *testing.T) {
	token := func(account string) *metav1.ObjectMeta {
		return &metav1.ObjectMeta{Name: "t", Annotations: map[string]string{"kubernetes.io/service-account.name": account}}
	}
	for name, c := range map[string]struct {
		resource string
		o        *metav1.ObjectMeta
		want     bool
	}{
		"token of default":  {"secrets", token("default"), true},
		"token of a person": {"secrets", token("deploy-bot"), false},
		"secret":            {"secrets", &metav1.ObjectMeta{Name: "s"}, false},
		"root authorities":  {"configmaps", &metav1.ObjectMeta{Name: "kube-root-ca.crt"}, true},
		"owned":             {"configmaps", &metav1.ObjectMeta{Name: "m", OwnerReferences: []metav1.OwnerReference{{Name: "x"}}}, true},
		"going":             {"configmaps", &metav1.ObjectMeta{Name: "m", DeletionTimestamp: &metav1.Time{}}, true},
		"system's binding":  {"rolebindings", &metav1.ObjectMeta{Name: "system:deployers"}, true},
		"binding":           {"rolebindings", &metav1.ObjectMeta{Name: "team"}, false},
	} {
		if got := common(c.resource, c.o); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestHeldGoing: an object on its way out is not held, whatever its marks say, and
// who only wrote its status is no writer of it.
func TestHeldGoing(t *testing.T) {
	o := object("ConfigMap", "n", "m", nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/n/configmaps/m", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, o.Object) })
	c := open(t, mux)
	want := []install.Manifest{{Tree: object("ConfigMap", "n", "m", nil).Object}}
	if waits, err := c.Held(t.Context(), want, "n"); err != nil || len(waits) != 0 {
		t.Errorf("%q, %v", waits, err)
	}
	o.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
	if waits, err := c.Held(t.Context(), want, "n"); err != nil || len(waits) != 1 {
		t.Errorf("%q, %v", waits, err)
	}
	o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "controller", Subresource: "status"}, {Manager: "kubectl-edit"}})
	if got := Writers(o); !slices.Equal(got, []string{"kubectl-edit"}) {
		t.Errorf("%q", got)
	}
}
