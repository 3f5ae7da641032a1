//go:build unix

package kube

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestRedirect sends a client elsewhere, where its token would be shown.
func TestRedirect(t *testing.T) {
	asked := make(chan string, 10)
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		answer(w, 200, map[string]any{"gitVersion": "v1.37.0"})
	}))
	defer thief.Close()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := Open(t.Context(), Config{Kubeconfig: config(t,
		fmt.Sprintf("server: %q, certificate-authority-data: %s", srv.URL, base64.StdEncoding.EncodeToString(ca)), "token: "+token)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Version(t.Context())
	want := "it redirects to " + thief.URL
	if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), want) {
		t.Errorf("version: %v", err)
	}
	if _, err = c.Apply(t.Context(), object("ConfigMap", "n", "x", nil), ApplyOptions{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("apply: %v", err)
	}
	other, err := kubernetes.NewForConfig(c.REST()) // as Helm does
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.CoreV1().Pods("n").List(t.Context(), metav1.ListOptions{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("another client: %v", err)
	}
	select {
	case a := <-asked:
		t.Errorf("another host was asked, with %q", a)
	default:
	}
}

// TestRetryAfter meets a server that wants to be asked again much later.
func TestRetryAfter(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		answer(w, 429, failure(429, "TooManyRequests", "slow down"))
	})
	c := open(t, mux)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := c.Apply(ctx, object("ConfigMap", "n", "x", nil), ApplyOptions{})
	if _, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), "it answers 429 Too Many Requests: slow down") {
		t.Error(err)
	}
}

// TestTokenFile opens kubeconfigs with files of a token that never end.
func TestTokenFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, "/dev/zero"} {
		done := make(chan error, 1)
		go func() {
			_, err := Open(t.Context(), Config{Kubeconfig: config(t, `server: "https://127.0.0.1:1"`, "tokenFile: "+path)})
			done <- err
		}()
		select {
		case err := <-done:
			if _, ok := errors.AsType[*ConfigError](err); !ok {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: it waits", path)
		}
	}
}

// TestPluginHangs interrupts a request whose exec plugin never ends.
func TestPluginHangs(t *testing.T) {
	dir := t.TempDir()
	began, plugin := filepath.Join(dir, "began"), filepath.Join(dir, "plugin")
	if err := syscall.Mkfifo(began, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plugin, []byte("#!/bin/sh\necho $$ >"+began+"\nexec sleep 300\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	c, err := Open(t.Context(), Config{Kubeconfig: config(t, `server: "https://127.0.0.1:1"`,
		fmt.Sprintf("exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, interactiveMode: Never}", plugin))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := c.Version(ctx); done <- err }()
	text, err := os.ReadFile(began) // waits until it runs
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the plugin")
	}
}

// TestProxySecret gives proxies that cannot be used, with passwords in them.
func TestProxySecret(t *testing.T) {
	for _, proxy := range []string{"http://user:hunter2-hunter2%zz@proxy:1", "ftp://user:hunter2-hunter2@proxy:1", "http://user:hunter2-hunter2@127.0.0.1:1"} {
		c, err := Open(t.Context(), Config{Kubeconfig: config(t, fmt.Sprintf(`server: "https://127.0.0.1:1", proxy-url: %q`, proxy), "token: x")})
		if err == nil {
			_, err = c.Version(t.Context())
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", proxy, err)
		}
	}
}

// TestControlCharacters lets a server speak to the terminal.
func TestControlCharacters(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 500, failure(500, "InternalError", "\x1b]0;title\x07 \u202e"+strings.Repeat("long ", 1000)))
	})
	_, err := open(t, mux).Apply(t.Context(), object("ConfigMap", "n", "x", nil), ApplyOptions{})
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\x07\u202e") || len(err.Error()) > 1000 {
		t.Errorf("%q", err)
	}
}

// TestExplainTime is the client's own limit of requests, when time is short.
func TestExplainTime(t *testing.T) {
	c := open(t, http.NewServeMux())
	err := c.Explain(errors.New("client rate limiter Wait returned an error: rate: Wait(n=1) would exceed context deadline"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
