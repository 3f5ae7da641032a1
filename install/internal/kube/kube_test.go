package kube

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const token = "hunter2-hunter2-hunter2"

// config writes a kubeconfig and returns its path.
func config(t *testing.T, cluster, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: c, cluster: {%s}}
- {name: other, cluster: {server: "https://other.example:6443"}}
users:
- {name: u, user: {%s}}
- {name: other, user: {token: other-token}}
contexts:
- {name: one, context: {cluster: c, user: u, namespace: "n"}}
- {name: two, context: {cluster: other, user: other}}
`, cluster, user)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func failure(code int, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) metav1.Status {
	return metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: message, Details: &metav1.StatusDetails{Causes: causes}, //nolint:gosec // a status code
	}
}

// open starts a server and opens it as a cluster.
func open(t *testing.T, mux *http.ServeMux) *Client {
	t.Helper()
	mux.HandleFunc("GET /api/v1", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "namespaces/status", Kind: "Namespace"},
			{Name: "namespaces", Kind: "Namespace"},
			{Name: "secrets", Kind: "Secret", Namespaced: true},
			{Name: "configmaps", Kind: "ConfigMap", Namespaced: true},
		}})
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c, err := Open(t.Context(), Config{Kubeconfig: config(t, fmt.Sprintf("server: %q", srv.URL), "token: "+token)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func object(kind, namespace, name string, more map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}}}
	if namespace != "" {
		o.SetNamespace(namespace)
	}
	maps.Copy(o.Object, more)
	return o
}

func TestDedicated(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{"ca.pem": "CA", "cert.pem": "CERT", "key.pem": "KEY"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := config(t, `server: "https://a.example:6443", certificate-authority: ca.pem, extensions: [{name: minikube, extension: {x: y}}]`,
		`client-certificate: cert.pem, client-key: key.pem, tokenFile: token`)
	whole := filepath.Join(dir, "config")
	if err := os.Rename(path, whole); err != nil {
		t.Fatal(err)
	}
	data, err := Dedicated(Config{Kubeconfig: whole})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"https://a.example:6443", "current-context: one", `namespace: "n"`, base64.StdEncoding.EncodeToString([]byte("CA")), base64.StdEncoding.EncodeToString([]byte("KEY")), filepath.Join(dir, "token")} {
		if !strings.Contains(string(data), want) {
			t.Errorf("it lacks %q:\n%s", want, data)
		}
	}
	for _, not := range []string{"other", "ca.pem", "minikube"} {
		if strings.Contains(string(data), not) {
			t.Errorf("it holds %q:\n%s", not, data)
		}
	}
	again, err := Dedicated(Config{Kubeconfig: whole})
	if err != nil || string(again) != string(data) {
		t.Errorf("a second time it differs: %v", err)
	}
	if other, err := Dedicated(Config{Kubeconfig: whole, Context: "two"}); err != nil || !strings.Contains(string(other), "other.example") {
		t.Errorf("%s, %v", other, err)
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	https := `server: "https://a.example:6443"`
	for name, c := range map[string]struct{ cluster, user, want string }{
		"plain http":      {`server: "http://a.example:6443"`, "token: " + token, "plain HTTP"},
		"not verified":    {https + ", insecure-skip-tls-verify: true", "token: " + token, "certificate-authority-data"},
		"auth provider":   {https, "auth-provider: {name: gcp}", "auth-provider gcp"},
		"no server":       {`server: ""`, "token: " + token, "no cluster"},
		"no URL":          {`server: "a.example"`, "token: " + token, "not a URL"},
		"no CA file":      {https + ", certificate-authority: nothing.pem", "token: " + token, "nothing.pem cannot be read"},
		"plugin":          {https, "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}", "exec plugin aws not found in PATH"},
		"plugin in place": {https, "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./aws, interactiveMode: Never}", "aws not found"},
		"bad CA":          {https + ", certificate-authority-data: eHg=", "token: " + token, "use kubeconfig"},
	} {
		_, err := Open(t.Context(), Config{Kubeconfig: config(t, c.cluster, c.user)})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Open(t.Context(), Config{}); err == nil {
		t.Error("no file is accepted")
	}
	if _, err := Open(t.Context(), Config{Kubeconfig: config(t, https, "token: "+token), Context: "three"}); err == nil || !strings.Contains(err.Error(), "three") {
		t.Errorf("another context: %v", err)
	}
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("token: "+token+"\n  : bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Kubeconfig: path}); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("not YAML: %v", err)
	}
	var p *PluginError
	_, err := Open(t.Context(), Config{Kubeconfig: config(t, https, "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}")})
	if !errors.As(err, &p) || p.Plugin != "aws" {
		t.Errorf("%v", err)
	}
}

// TestExplain shows how failures to reach a server get types.
func TestExplain(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	get := func(cluster, user string) error {
		c, err := Open(t.Context(), Config{Kubeconfig: config(t, cluster, user)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Mapping(t.Context(), schema.GroupVersionKind{Version: "v1", Kind: "Secret"})
		return err
	}
	if err := get(fmt.Sprintf("server: %q", srv.URL), "token: "+token); !is[*TLSError](err) {
		t.Errorf("an unknown authority: %v", err)
	}
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	if err := get(fmt.Sprintf("server: %q, certificate-authority-data: %s", srv.URL, ca), "token: "+token); !is[*UnknownKindError](err) {
		t.Errorf("a trusted one: %v", err)
	}
	if err := get(fmt.Sprintf("server: %q", closed.URL), "token: "+token); !is[*UnreachableError](err) || strings.Contains(err.Error(), token) {
		t.Errorf("nothing there: %v", err)
	}
	plugin := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(plugin, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if err := get(fmt.Sprintf("server: %q, certificate-authority-data: %s", srv.URL, ca), fmt.Sprintf("exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, interactiveMode: Never}", plugin)); !is[*PluginError](err) {
		t.Errorf("a plugin that fails: %v", err)
	}
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func TestForbidden(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/n/secrets/s", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 403, failure(403, metav1.StatusReasonForbidden, `secrets "s" is forbidden: User "eve" cannot get resource "secrets" in API group "" in the namespace "n"`))
	})
	mux.HandleFunc("GET /api/v1/namespaces/n/configmaps/s", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 401, failure(401, metav1.StatusReasonUnauthorized, "Unauthorized"))
	})
	c := open(t, mux)
	_, err := c.Apply(t.Context(), object("Secret", "n", "s", nil), ApplyOptions{})
	f, ok := errors.AsType[*ForbiddenError](err)
	if !ok || f.Verb != "get" || f.Resource != "secrets" || f.Namespace != "n" || f.User != "eve" {
		t.Errorf("%v", err)
	}
	if _, err := c.Apply(t.Context(), object("ConfigMap", "n", "s", nil), ApplyOptions{}); !is[*UnauthorizedError](err) {
		t.Errorf("%v", err)
	}
	if _, err := c.Apply(t.Context(), object("Widget", "n", "s", nil), ApplyOptions{}); !is[*UnknownKindError](err) {
		t.Errorf("%v", err)
	}
}

// store is an API server that keeps one object as it was last sent.
type store struct {
	*httptest.Server
	have  map[string]any
	query string
}

func (s *store) get(w http.ResponseWriter, _ *http.Request) {
	if s.have == nil {
		answer(w, 404, failure(404, metav1.StatusReasonNotFound, "not found"))
		return
	}
	answer(w, 200, s.have)
}

func (s *store) patch(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	var o map[string]any
	_ = json.Unmarshal(data, &o)
	s.query = r.URL.RawQuery
	if r.URL.Query().Get("dryRun") == "" {
		s.have = o
	}
	answer(w, 200, o)
}

func TestApply(t *testing.T) {
	s, mux := &store{}, http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/n/configmaps/m", s.get)
	mux.HandleFunc("PATCH /api/v1/namespaces/n/configmaps/m", s.patch)
	c := open(t, mux)
	want := object("ConfigMap", "n", "m", map[string]any{"data": map[string]any{"a": "1"}})
	for i, step := range []struct {
		opts   ApplyOptions
		data   string
		change Change
		fields []string
	}{
		{ApplyOptions{DryRun: true}, "1", Created, nil},
		{ApplyOptions{}, "1", Created, nil},
		{ApplyOptions{}, "1", Unchanged, nil},
		{ApplyOptions{DryRun: true}, "2", Changed, []string{"data.a"}},
		{ApplyOptions{Force: true}, "2", Changed, []string{"data.a"}},
	} {
		want.Object["data"] = map[string]any{"a": step.data}
		out, err := c.Apply(t.Context(), want, step.opts)
		if err != nil || out.Change != step.change || cmp.Diff(step.fields, out.Fields) != "" {
			t.Errorf("step %d: %+v, %v", i, out, err)
		}
		if !strings.Contains(s.query, "fieldManager=airlock") || strings.Contains(s.query, "force=true") != step.opts.Force {
			t.Errorf("step %d asks %s", i, s.query)
		}
	}
}

func TestApplyRefused(t *testing.T) {
	mux := http.NewServeMux()
	gone := func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 404, failure(404, metav1.StatusReasonNotFound, "no"))
	}
	for _, path := range []string{"configmaps/conflict", "configmaps/late", "secrets/invalid", "configmaps/invalid"} {
		mux.HandleFunc("GET /api/v1/namespaces/n/"+path, gone)
	}
	mux.HandleFunc("PATCH /api/v1/namespaces/n/configmaps/conflict", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 409, failure(409, metav1.StatusReasonConflict, "Apply failed with 1 conflict",
			metav1.StatusCause{Type: metav1.CauseTypeFieldManagerConflict, Field: ".data.a", Message: `conflict with "kubectl-edit" using v1`}))
	})
	mux.HandleFunc("PATCH /api/v1/namespaces/n/configmaps/late", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 403, failure(403, metav1.StatusReasonForbidden, "it is being terminated", metav1.StatusCause{Type: corev1.NamespaceTerminatingCause}))
	})
	invalid := func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 422, failure(422, metav1.StatusReasonInvalid, `invalid: data.key: Invalid value: "`+token+`"`, metav1.StatusCause{Field: "data.key", Message: token}))
	}
	mux.HandleFunc("PATCH /api/v1/namespaces/n/secrets/invalid", invalid)
	mux.HandleFunc("PATCH /api/v1/namespaces/n/configmaps/invalid", invalid)
	mux.HandleFunc("GET /api/v1/namespaces/n", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, object("Namespace", "", "n", map[string]any{
			"spec": map[string]any{"finalizers": []any{"kubernetes"}},
			"status": map[string]any{"phase": "Terminating", "conditions": []any{
				map[string]any{"type": "NamespaceContentRemaining", "status": "True", "message": "Some resources are remaining: widgets.example has 1 resource instances"},
				map[string]any{"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All resources successfully discovered"},
			}},
		}).Object)
	})
	c := open(t, mux)
	_, err := c.Apply(t.Context(), object("ConfigMap", "n", "conflict", nil), ApplyOptions{})
	conflict, ok := errors.AsType[*ConflictError](err)
	if !ok || cmp.Diff([]string{"kubectl-edit"}, conflict.Owners) != "" || conflict.Object != "ConfigMap n/conflict" {
		t.Errorf("%v", err)
	}
	for _, o := range []*unstructured.Unstructured{object("ConfigMap", "n", "late", nil), object("Namespace", "", "n", nil)} {
		_, err := c.Apply(t.Context(), o, ApplyOptions{})
		if e, ok := errors.AsType[*TerminatingError](err); !ok || len(e.Holds) != 2 || !strings.Contains(err.Error(), "widgets.example") {
			t.Errorf("%s: %v", o.GetName(), err)
		}
	}
	if _, err := c.Apply(t.Context(), object("Secret", "n", "invalid", nil), ApplyOptions{}); !is[*InvalidError](err) || strings.Contains(err.Error(), token) || !strings.Contains(err.Error(), "data.key") {
		t.Errorf("a Secret: %v", err)
	}
	if _, err := c.Apply(t.Context(), object("ConfigMap", "n", "invalid", nil), ApplyOptions{}); !is[*InvalidError](err) || !strings.Contains(err.Error(), "data.key") {
		t.Errorf("a ConfigMap: %v", err)
	}
}

func TestDiff(t *testing.T) {
	a := object("ConfigMap", "n", "m", map[string]any{"data": map[string]any{"a": "1", "b.c": "2", "l": []any{"x", "y"}}, "status": map[string]any{"s": "1"}})
	b := object("ConfigMap", "n", "m", map[string]any{"data": map[string]any{"a": "1", "b.c": "3", "l": []any{"x", "z"}}, "spec": map[string]any{}})
	b.SetResourceVersion("7")
	if d := cmp.Diff([]string{"data.l[1]", `data["b.c"]`}, Diff(a, b)); d != "" {
		t.Error(d)
	}
}
