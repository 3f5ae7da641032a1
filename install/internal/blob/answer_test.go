package blob

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Libraries keep an answer whole: a server that never stops would fill the
// memory of this machine.
func TestAnswerWithoutEnd(t *testing.T) {
	sent := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		part := []byte(strings.Repeat("<a>", 20000))
		for sent = 0; sent < 16*maxAnswer; { // bounded, so that the test is
			n, err := w.Write(part)
			if sent += n; err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	s, err := Open(t.Context(), Config{Type: TypeMinio, Endpoint: strings.TrimPrefix(srv.URL, "http://"), AccessKey: "key", SecretKey: "secret-of-the-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Rules.Look(t.Context(), "bucket")
	if ReasonOf(err) != Unreachable || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("look: %v, want that the answer is too long", err)
	}
	if f, whole := s.Finding(err, OpLook, "bucket", "states", "X"); f.Code != CodeAnswer || !whole {
		t.Errorf("finding %s, whole %t: every other bucket would be asked for the same", f.Code, whole)
	}
}

// Content may have any length as long as it comes; what does not come ends.
func TestAnswerStops(t *testing.T) {
	const size = maxAnswer + 1
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stops" {
			if _, err := w.Write([]byte("<")); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-r.Context().Done() // the client has given up
			return
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	transport, err := newTransport("", false)
	if err != nil {
		t.Fatal(err)
	}
	get := func(ctx context.Context, path string) (int64, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := plain(transport).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return io.Copy(io.Discard, resp.Body)
	}
	if n, err := get(content(t.Context()), "/whole"); n != size || err != nil {
		t.Errorf("content: %d bytes, %v; want %d", n, err, size)
	}
	transport.wait = 10 * time.Millisecond
	for name, ctx := range map[string]context.Context{"answer": t.Context(), "content": content(t.Context())} {
		if _, err := get(ctx, "/stops"); !errors.Is(err, errSlow) {
			t.Errorf("%s: %v, want %v", name, err, errSlow)
		}
	}
	if e, ok := fromWire(OpGet, "b", errSlow); !ok || e.Reason != Unreachable {
		t.Errorf("%v is no finding about the service", e)
	}
}
