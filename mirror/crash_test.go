package mirror

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/olareg/olareg/config"
	"oras.land/oras-go/v2"
)

// Killed at any request, a run leaves no tag that lacks anything, and the next
// one completes what is missing without sending a blob again.
func TestKilledAnywhere(t *testing.T) {
	for name, m := range map[string]matrixTarget{
		"olareg in a directory": {workers: 1, handler: func(t testing.TB) http.Handler {
			return olaregHandler(t, config.ConfigStorage{StoreType: config.StoreDir, RootDir: t.TempDir()}, true)
		}},
		"distribution": {noAPI: true, workers: 4, handler: distributionHandler},
	} {
		for _, at := range []int32{3, 12, 30, 42, 48, 54} {
			t.Run(fmt.Sprintf("%s, request %d", name, at), func(t *testing.T) { killedAt(t, m, at) })
		}
	}
}

func killedAt(t *testing.T, m matrixTarget, at int32) {
	reg := serveOver(t, m.handler(t), false)
	reg.noAPI = m.noAPI
	order := childOrder{Host: reg.host, Record: t.TempDir(), Workers: m.workers, Kinds: true}
	var n atomic.Int32
	var kill sync.Once
	cmd := order.command(t)
	started := make(chan struct{})
	reg.setFault(func(http.ResponseWriter, *http.Request) bool {
		if n.Add(1) < at {
			return false
		}
		<-started
		kill.Do(func() { _ = cmd.Process.Kill() }) // it may have ended by itself
		return false                               // what is under way goes on, as it does at a real registry
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	if err := cmd.Wait(); err == nil {
		t.Fatalf("the child ended well after %d requests", n.Load())
	}
	reg.setFault(nil)
	first := blobsSent(reg.requests())
	f := newFake(t)
	w := everyKind(f)
	o := options(t, reg)
	o.Record, o.Workers = order.Record, m.workers
	complete := 0
	for place := range w.tags {
		repository, tag, _ := strings.Cut(place, ":")
		repo := reg.repository(t, "airlock/"+repository)
		d, err := oras.Resolve(t.Context(), repo, tag, oras.DefaultResolveOptions)
		if err != nil {
			continue // not there yet
		}
		complete++
		readTree(t, f, repo, d)
	}
	if complete == len(w.tags) && at < 40 {
		t.Errorf("all is there after %d requests", at)
	}
	reg.requests()
	if _, result, err := run(t.Context(), f, o); err != nil || result.Failed != 0 {
		t.Fatalf("second run: %+v, %v", result, err)
	}
	for d := range blobsSent(reg.requests()) {
		if first[d] > 0 {
			t.Errorf("blob %s was sent again", d)
		}
	}
	w.check(t, f, reg, o)
}

// A registry that starts again in the middle is waited for; one that was never
// there is not.
func TestRegistryStartsAgain(t *testing.T) {
	reg := newOlareg(t, true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	var puts atomic.Int32
	down := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isUpload(r, http.MethodPut) && puts.Add(1) == 3 {
			close(down)
			panic(http.ErrAbortHandler)
		}
		reg.handler.ServeHTTP(w, r)
	})
	start := func(l net.Listener) *httptest.Server {
		s := httptest.NewUnstartedServer(handler)
		s.Listener.Close()
		s.Listener = l
		s.Start()
		return s
	}
	s := start(l)
	f := newFake(t)
	for i := range 6 {
		f.root(fmt.Sprintf("quay.io/a/x%d:1", i), f.image(fmt.Sprint(i), f.layer(uint64(i), 2<<20)))
	}
	o := options(t, &registry{host: addr})
	o.Workers = 2
	e, err := prepareEngine(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	var pauses atomic.Int32
	stop := sync.OnceFunc(func() {
		if err := s.Config.Close(); err != nil { // no connection that it has just accepted goes on
			t.Error(err)
		}
	})
	again := sync.OnceFunc(func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		s = start(l)
	})
	e.pause = func(context.Context, int, error) error {
		<-down
		stop()
		if pauses.Add(1) > fewAttempts*2 { // one of two workers was refused more often than a wrong address is
			again()
		}
		return nil
	}
	_, result, err := e.carryOut(t.Context(), nil)
	if err != nil || result.Pushed != 6 {
		t.Errorf("%+v, %v, %d pauses", result, err, pauses.Load())
	}
	s.Close()
	pauses.Store(0)
	if e, err = prepareEngine(t.Context(), f, o); err != nil {
		t.Fatal(err)
	}
	e.pause = func(context.Context, int, error) error { pauses.Add(1); return nil }
	if _, _, err = e.carryOut(t.Context(), nil); err == nil || pauses.Load() != fewAttempts-1 {
		t.Errorf("%v after %d pauses", err, pauses.Load())
	}
}

// A record that is no file cannot hold a run up.
func TestRecordIsNoFile(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t)
	r, err := openRecord(dir, f.Info().Digest, "r.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	name := recordFile(t, dir)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := openRecord(dir, f.Info().Digest, "r.test")
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-time.After(time.Minute):
		err = errors.New("it waits")
	}
	if err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
		t.Errorf("error %v", err)
	}
}
