// Package kubetest is a small API server for tests: it keeps objects of any
// kind, lists, creates, merges and removes them, honours dry runs, and answers
// what a test tells it to. It validates nothing; what needs a real API server is
// tested against one.
package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Token is what the kubeconfig logs in with.
const Token = "hunter2-hunter2-hunter2"

// kinds are those that the server knows.
var kinds = map[string][]kind{
	"v1": {
		{"namespaces", "Namespace", false},
		{"nodes", "Node", false},
		{"secrets", "Secret", true},
		{"configmaps", "ConfigMap", true},
		{"pods", "Pod", true},
		{"services", "Service", true},
		{"serviceaccounts", "ServiceAccount", true},
		{"events", "Event", true},
		{"resourcequotas", "ResourceQuota", true},
		{"limitranges", "LimitRange", true},
		{"endpoints", "Endpoints", true},
	},
	"apps/v1": {
		{"deployments", "Deployment", true},
		{"replicasets", "ReplicaSet", true},
		{"statefulsets", "StatefulSet", true},
		{"daemonsets", "DaemonSet", true},
	},
	"batch/v1":             {{"jobs", "Job", true}},
	"networking.k8s.io/v1": {{"ingresses", "Ingress", true}, {"ingressclasses", "IngressClass", false}},
	"discovery.k8s.io/v1":  {{"endpointslices", "EndpointSlice", true}},
	"apiextensions.k8s.io/v1": {
		{"customresourcedefinitions", "CustomResourceDefinition", false},
	},
	"admissionregistration.k8s.io/v1": {
		{"validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false},
		{"mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false},
	},
	"cert-manager.io/v1": {{"certificates", "Certificate", true}, {"issuers", "Issuer", true}, {"clusterissuers", "ClusterIssuer", false}},
	"example.org/v1":     {{"widgets", "Widget", true}, {"parts", "Part", true}},
}

type kind struct {
	resource, name string
	namespaced     bool
}

// Server is the API server.
type Server struct {
	URL        string
	Kubeconfig string // a file
	// Set before the first request:
	Late    time.Duration // how far the clock of /version is ahead
	Unready string        // what /readyz answers in place of ok
	t       *testing.T
	mux     *http.ServeMux

	mu      sync.Mutex
	objects map[string]map[string]any // by path
	asked   []string                  // method and path, with the query
	version int
}

// Start starts a server that ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	s := &Server{t: t, mux: http.NewServeMux(), objects: make(map[string]map[string]any)}
	s.mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(s.Late).UTC().Format(http.TimeFormat))
		Answer(w, 200, map[string]any{"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
	})
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.Unready != "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, s.Unready)
	})
	for version, list := range kinds {
		path := "/apis/" + version
		if version == "v1" {
			path = "/api/v1"
		}
		s.mux.HandleFunc("GET "+path, discovery(version, list))
	}
	s.mux.HandleFunc("GET /apis", groups)
	s.mux.HandleFunc("/", s.serve)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		s.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.URL, s.Kubeconfig = srv.URL, filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q}}]
users: [{name: test, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
`, srv.URL, Token)
	if err := os.WriteFile(s.Kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// groups lists the groups of the kinds, each with its version.
func groups(w http.ResponseWriter, _ *http.Request) {
	var out []any
	for _, version := range slices.Sorted(maps.Keys(kinds)) {
		if group, v, ok := strings.Cut(version, "/"); ok {
			out = append(out, map[string]any{"name": group, "versions": []any{map[string]any{"groupVersion": version, "version": v}}})
		}
	}
	Answer(w, 200, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": out})
}

func discovery(version string, list []kind) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var out []any
		for _, k := range list {
			out = append(out, map[string]any{"name": k.resource, "kind": k.name, "namespaced": k.namespaced, "singularName": "", "verbs": []any{"get", "list"}})
		}
		Answer(w, 200, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": out})
	}
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// Refuse writes a Status.
func Refuse(w http.ResponseWriter, code int, reason, message string) {
	Answer(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

// Handle answers requests of a pattern of [http.ServeMux] in place of the store.
func (s *Server) Handle(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }

// Put keeps an object, given as JSON or YAML-free Go data, under its own path.
func (s *Server) Put(objects ...map[string]any) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		raw, err := json.Marshal(o)
		if err != nil {
			s.t.Fatal(err)
		}
		var clean map[string]any
		_ = json.Unmarshal(raw, &clean)
		s.keep(s.path(clean), clean)
	}
}

// Object returns what is kept under a path, nil if nothing is.
func (s *Server) Object(path string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// Asked returns the requests that change something, method and path with query.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.asked), func(r string) bool { return strings.HasPrefix(r, "GET ") })
}

// path is where an object lives.
func (s *Server) path(o map[string]any) string {
	version, _ := o["apiVersion"].(string)
	md, _ := o["metadata"].(map[string]any)
	for _, k := range kinds[version] {
		if k.name != o["kind"] {
			continue
		}
		root := "/apis/" + version
		if version == "v1" {
			root = "/api/v1"
		}
		if k.namespaced {
			root += fmt.Sprintf("/namespaces/%v", md["namespace"])
		}
		return fmt.Sprintf("%s/%s/%v", root, k.resource, md["name"])
	}
	s.t.Fatalf("the test's API server does not know %v %v", version, o["kind"])
	return ""
}

func (s *Server) keep(path string, o map[string]any) {
	s.version++
	md, _ := o["metadata"].(map[string]any)
	if md == nil {
		md = map[string]any{}
		o["metadata"] = md
	}
	md["resourceVersion"] = strconv.Itoa(s.version)
	s.objects[path] = o
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, _ := io.ReadAll(r.Body)
	var sent map[string]any
	_ = json.Unmarshal(data, &sent)
	have, dry := s.objects[r.URL.Path], r.URL.Query().Get("dryRun") != ""
	switch {
	case r.Method == http.MethodPost:
		md, _ := sent["metadata"].(map[string]any)
		path := fmt.Sprintf("%s/%v", r.URL.Path, md["name"])
		if s.objects[path] != nil {
			Refuse(w, 409, "AlreadyExists", "it exists")
			return
		}
		if !dry {
			s.keep(path, sent)
		}
		Answer(w, 201, sent)
	case r.Method == http.MethodGet && have == nil && listed(r.URL.Path) != "":
		s.list(w, r, listed(r.URL.Path))
	case r.Method == http.MethodPatch:
		now := merge(clone(have), sent)
		if !dry {
			s.keep(r.URL.Path, now)
		}
		Answer(w, 200, now)
	case have == nil:
		Refuse(w, 404, "NotFound", "not found")
	case r.Method == http.MethodGet:
		Answer(w, 200, have)
	case r.Method == http.MethodPut:
		if !dry {
			s.keep(r.URL.Path, sent)
		}
		Answer(w, 200, sent)
	case r.Method == http.MethodDelete:
		if !dry {
			delete(s.objects, r.URL.Path)
		}
		Answer(w, 200, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	}
}

// listed is the kind of what a path lists, "" if it is that of one object.
func listed(path string) string {
	last := path[strings.LastIndexByte(path, '/')+1:]
	for _, list := range kinds {
		for _, k := range list {
			if k.resource == last {
				return k.name
			}
		}
	}
	return ""
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, name string) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		Refuse(w, 400, "BadRequest", err.Error())
		return
	}
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		o := s.objects[path]
		md, _ := o["metadata"].(map[string]any)
		set := labels.Set{}
		if l, ok := md["labels"].(map[string]any); ok {
			for k, v := range l {
				set[k] = fmt.Sprint(v)
			}
		}
		if path[:strings.LastIndexByte(path, '/')] == r.URL.Path && selector.Matches(set) && named(r, md) {
			items = append(items, o)
		}
	}
	version := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"), "/api/")
	for known := range kinds {
		if strings.HasPrefix(version, known+"/") {
			version = known
		}
	}
	Answer(w, 200, map[string]any{"kind": name + "List", "apiVersion": version, "metadata": map[string]any{}, "items": items})
}

// named applies the one field selector that steps use beside labels.
func named(r *http.Request, md map[string]any) bool {
	name, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	return !ok || md["name"] == name
}

func clone(o map[string]any) map[string]any {
	raw, _ := json.Marshal(o)
	var out map[string]any
	_ = json.Unmarshal(raw, &out)
	if out == nil {
		out = map[string]any{}
	}
	return out
}

// merge is RFC 7386, which is what an apply by the only owner comes to, fields
// that it drops aside.
func merge(have, sent map[string]any) map[string]any {
	for k, v := range sent {
		if v == nil {
			delete(have, k)
			continue
		}
		sub, ok := v.(map[string]any)
		old, was := have[k].(map[string]any)
		switch {
		case ok && was:
			have[k] = merge(old, sub)
		case ok:
			have[k] = merge(map[string]any{}, sub)
		default:
			have[k] = v
		}
	}
	return have
}
