//go:build all

package helm

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// faulty stands between a client and the API server and misbehaves from a moment
// on: after it has answered the first change of a kind, until lift is called or
// its time is up.
type faulty struct {
	kubeconfig string
	next       http.Handler
	tls        *tls.Config
	address    string

	method, kind string        // of the request after which it misbehaves
	skip         int           // so many of them are nothing special
	fault        string        // refuse, cut, silent, watch, or a status
	lasts        time.Duration // 0: until lift is called
	ahead        time.Duration // of its clock, always
	before       func()        // is called before such a request is passed on; may be nil

	mu     sync.Mutex
	begun  bool
	lifted chan struct{} // closed when the fault is over
	server *http.Server
}

// newFaulty listens on a port of its own with the API server's certificate.
func newFaulty(t *testing.T) *faulty {
	t.Helper()
	to, err := url.Parse(box.Server)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(rest.CopyConfig(box.REST))
	if err != nil {
		t.Fatal(err)
	}
	next := httputil.NewSingleHostReverseProxy(to)
	next.ErrorLog = log.New(io.Discard, "", 0)
	next.Transport, next.FlushInterval = transport, -1
	next.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	keys := filepath.Dir(box.Kubeconfig)
	cert, err := tls.LoadX509KeyPair(filepath.Join(keys, "server.crt"), filepath.Join(keys, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{next: next, tls: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, lifted: make(chan struct{}), address: "127.0.0.1:0"}
	next.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(f.ahead).UTC().Format(http.TimeFormat))
		return nil
	}
	if err := f.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.lift()
		f.mu.Lock()
		defer f.mu.Unlock()
		_ = f.server.Close() // a fault may have closed its listener: nothing is left either way
	})
	c, err := clientcmd.LoadFromFile(box.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range c.Clusters {
		one.Server = "https://" + f.address
	}
	f.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, f.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *faulty) listen() error {
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	f.address = l.Addr().String()
	f.server = &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: f, TLSConfig: f.tls, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.ServeTLS(l, "", "") }(f.server) // until it is closed
	return nil
}

// begin begins to misbehave.
func (f *faulty) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.skip--; f.begun || f.skip >= 0 {
		return
	}
	f.begun = true
	if f.fault == "refuse" {
		go f.server.Close() // the answer on its way ends before
	}
	if f.lasts > 0 {
		time.AfterFunc(f.lasts, f.lift)
	}
}

// lift ends what is wrong. It may be called again.
func (f *faulty) lift() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.lifted:
		return
	default:
	}
	close(f.lifted)
	if f.begun && f.fault == "refuse" {
		_ = f.listen() // in a timer, with no test to tell: the run that comes next is refused and fails its row
	}
}

// wrong is the fault of now, "" if there is none.
func (f *faulty) wrong() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.lifted:
		return ""
	default:
	}
	if !f.begun {
		return ""
	}
	return f.fault
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wrong := f.wrong()
	if code, err := strconv.Atoi(wrong); err == nil {
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, http.StatusText(code), code)
		return
	}
	switch wrong {
	case "cut":
		w = &half{ResponseWriter: w}
	case "silent":
		select {
		case <-f.lifted:
		case <-r.Context().Done():
			return
		}
	case "watch":
		if r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1" {
			ctx, cancel := context.WithTimeout(r.Context(), 200*time.Millisecond)
			defer cancel()
			r = r.WithContext(ctx)
		}
	}
	change := r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == ""
	if !change || r.Method != f.method || !strings.Contains(r.URL.Path, "/"+f.kind) {
		f.next.ServeHTTP(w, r)
		return
	}
	if f.before != nil {
		f.before()
	}
	f.next.ServeHTTP(w, r)
	if flush, ok := w.(http.Flusher); ok {
		flush.Flush()
	}
	f.begin()
}

// half is an answer that ends in the middle of its body.
type half struct{ http.ResponseWriter }

func (h *half) Write(p []byte) (int, error) {
	_, _ = io.Copy(h.ResponseWriter, bytes.NewReader(p[:len(p)/2])) // it is cut here anyway
	if flush, ok := h.ResponseWriter.(http.Flusher); ok {
		flush.Flush()
	}
	panic(http.ErrAbortHandler)
}
