package kube

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestAnswers: whatever a server answers that is none, every way of asking has a
// code and says what came.
func TestAnswers(t *testing.T) {
	t.Parallel()
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	asking := map[string]func(c *Client) error{
		"typed": func(c *Client) error {
			_, err := c.clientset.CoreV1().Pods("n").Get(t.Context(), "p", metav1.GetOptions{})
			return c.Explain(err)
		},
		"dynamic": func(c *Client) error {
			_, err := c.dynamic.Resource(pods).Namespace("n").Get(t.Context(), "p", metav1.GetOptions{})
			return c.Explain(err)
		},
		"list": func(c *Client) error { _, err := c.Find(t.Context(), pods, "n", called(), 0); return err },
		"kinds": func(c *Client) error {
			_, err := c.Mapping(t.Context(), schema.GroupVersionKind{Group: "x", Version: "v1", Kind: "X"})
			return err
		},
		"apply": func(c *Client) error {
			_, err := c.Apply(t.Context(), object("ConfigMap", "n", "x", nil), ApplyOptions{})
			return err
		},
		"version": func(c *Client) error { _, err := c.Version(t.Context()); return err },
		"ready":   func(c *Client) error { _, err := c.Unready(t.Context()); return err },
	}
	long := strings.Repeat("x", 1<<20)
	for _, s := range []struct {
		name, says string
		except     string // asking of which the answer is one
		answer     http.HandlerFunc
	}{
		{"500", "500 Internal Server Error", "ready", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 500, failure(500, "InternalError", "etcd is away"))
		}},
		{"500 in words", "500 Internal Server Error", "ready", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oh no", 500) }},
		{"page", "HTML", "ready", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html><body>Log in to the proxy</body></html>")
		}},
		{"page called JSON", "no API server", "ready", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "<html><body>Log in to the proxy</body></html>")
		}},
		{"half", "no API server", "ready", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"kind": "Pod", "apiVersion": "v1", "metadata": {"na`)
		}},
		{"empty", "no API server", "ready", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/json") }},
		{"cut", "ends in the middle", "ready", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"kind": "Pod",`)
		}},
		{"endless", "larger than", "ready version", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 200 {
				if _, err := io.WriteString(w, long); err != nil {
					return
				}
			}
		}},
	} {
		for name, ask := range asking {
			if strings.Contains(" "+s.except+" ", " "+name+" ") {
				continue
			}
			mux := http.NewServeMux()
			mux.HandleFunc("/", s.answer)
			err := ask(open(t, mux))
			f, ok := Access{}.Finding(err, nil)
			if !ok || !strings.Contains(f.Detail, s.says) {
				t.Errorf("%s, %s: %v (%T) has code %q", s.name, name, err, errors.Unwrap(err), f.Code)
			}
			if strings.ContainsAny(f.Detail, "\n\x1b") || len(f.Detail) > 1000 {
				t.Errorf("%s, %s: %q", s.name, name, f.Detail)
			}
		}
	}
}
