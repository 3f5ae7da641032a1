package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// script answers requests from a list: an int is a status, an error an error.
type script struct {
	answers []any
	header  http.Header
	bodies  []string
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, string(b))
	} else {
		s.bodies = append(s.bodies, "")
	}
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	if err, ok := a.(error); ok {
		return nil, err
	}
	return &http.Response{StatusCode: a.(int), Header: s.header.Clone(), Body: io.NopCloser(strings.NewReader("x")), Request: req}, nil
}

func TestRetry(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for name, tc := range map[string]struct {
		method  string
		body    string
		answers []any
		after   string
		sent    int
		status  int // 0: an error
		atLeast time.Duration
		atMost  time.Duration
	}{
		"success":                  {"GET", "", []any{200}, "", 1, 200, 0, 0},
		"not found is an answer":   {"GET", "", []any{404}, "", 1, 404, 0, 0},
		"unauthorized is one too":  {"GET", "", []any{401}, "", 1, 401, 0, 0},
		"one 500":                  {"GET", "", []any{500, 200}, "", 2, 200, 0, time.Second},
		"each transient status":    {"GET", "", []any{408, 425, 499, 502, 503, 504, 522, 200}, "", 8, 200, 0, 2 * time.Minute},
		"gives up after 8":         {"GET", "", []any{503}, "", 8, 503, 0, 2 * time.Minute},
		"reset and EOF":            {"HEAD", "", []any{reset, io.EOF, io.ErrUnexpectedEOF, 200}, "", 4, 200, 0, 5 * time.Second},
		"a put is sent again":      {"PUT", "body", []any{503, reset, 201}, "", 3, 201, 0, 5 * time.Second},
		"a post is not":            {"POST", "body", []any{503}, "", 1, 503, 0, 0},
		"a post that broke is not": {"POST", "body", []any{reset}, "", 1, 0, 0, 0},
		"a post refused early is":  {"POST", "body", []any{429, refused, 202}, "", 3, 202, 0, 5 * time.Second},
		"nobody listens":           {"GET", "", []any{refused}, "", 3, 0, 0, 3 * time.Second},
		"no such host":             {"GET", "", []any{&net.DNSError{IsNotFound: true}}, "", 1, 0, 0, 0},
		"errors without a name":    {"GET", "", []any{errors.New("odd")}, "", 3, 0, 0, 3 * time.Second},
		"certificates stay bad":    {"GET", "", []any{x509.UnknownAuthorityError{}}, "", 1, 0, 0, 0},
		"retry after seconds":      {"GET", "", []any{429, 200}, "7", 2, 200, 7 * time.Second, 7 * time.Second},
		"retry after a date":       {"GET", "", []any{503, 200}, "date", 2, 200, 29 * time.Second, 31 * time.Second},
		"retry after is capped":    {"GET", "", []any{503, 200}, "99999999999", 2, 200, maxRetryAfter, maxRetryAfter},
		"retry after is nonsense":  {"GET", "", []any{503, 200}, "-3", 2, 200, 0, time.Second},
		"ten minutes are enough":   {"GET", "", []any{503}, "120", 6, 503, 8 * time.Minute, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: tc.answers, header: http.Header{}}
				if tc.after == "date" {
					tc.after = time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)
				}
				s.header.Set("Retry-After", tc.after)
				var body io.Reader
				if tc.body != "" {
					body = strings.NewReader(tc.body)
				}
				req, err := http.NewRequestWithContext(t.Context(), tc.method, "https://a.b/", body)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				resp, err := (&retryTransport{base: s, attempts: defaultAttempts}).RoundTrip(req)
				took := time.Since(start)
				status := 0
				if err == nil {
					status = resp.StatusCode
					resp.Body.Close()
				}
				if status != tc.status || len(s.bodies) != tc.sent || took < tc.atLeast || took > tc.atMost {
					t.Errorf("status %d (%v) after %d requests and %s; want %d after %d and %s to %s", status, err, len(s.bodies), took, tc.status, tc.sent, tc.atLeast, tc.atMost)
				}
				for _, b := range s.bodies {
					if b != tc.body {
						t.Errorf("sent body %q, want %q", b, tc.body)
					}
				}
			})
		})
	}
}

func TestRetryHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s := &script{answers: []any{503}, header: http.Header{"Retry-After": {"60"}}}
		req, err := http.NewRequestWithContext(ctx, "GET", "https://a.b/", nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		resp, err := (&retryTransport{base: s, attempts: 8}).RoundTrip(req)
		if resp != nil {
			defer resp.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

func TestRetryNeedsRewindableBody(t *testing.T) {
	s := &script{answers: []any{503, 200}, header: http.Header{}}
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "https://a.b/", io.NopCloser(strings.NewReader("once")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&retryTransport{base: s, attempts: 8}).RoundTrip(req)
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil || resp.StatusCode != 503 || len(s.bodies) != 1 {
		t.Errorf("got %v, %v after %d requests; want 503 after one", resp, err, len(s.bodies))
	}
}

// pipeTripper answers with a body, or takes one, that the test drives.
type pipeTripper func(req *http.Request) (*http.Response, error)

func (p pipeTripper) RoundTrip(req *http.Request) (*http.Response, error) { return p(req) }

// ctxReader blocks until its context ends, as a connection without data does.
type ctxReader struct{ ctx context.Context }

func (r ctxReader) Read([]byte) (int, error) { <-r.ctx.Done(); return 0, r.ctx.Err() }

func TestStall(t *testing.T) {
	slow := func(n int, each time.Duration) io.Reader {
		r, w := io.Pipe()
		go func() {
			for range n {
				time.Sleep(each)
				w.Write([]byte("x")) //nolint:errcheck // the reader may be gone
			}
			w.Close()
		}()
		return r
	}
	for name, tc := range map[string]struct {
		body    string // of the request
		trip    pipeTripper
		want    string // in the error, "" for none
		elapsed time.Duration
	}{
		"no answer": {"", func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}, "no answer for 1m30s", answerTimeout},
		"no answer to a body": {"b", func(req *http.Request) (*http.Response, error) {
			if _, err := io.ReadAll(req.Body); err != nil {
				return nil, err
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		}, "no answer for 10m0s", bodyAnswerTimeout},
		"body not taken": {"b", func(req *http.Request) (*http.Response, error) {
			if _, err := req.Body.Read(make([]byte, 1)); err != nil {
				return nil, err
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		}, "no progress of the upload for 1m0s", idleTimeout},
		"no data": {"", func(req *http.Request) (*http.Response, error) {
			return &http.Response{Body: io.NopCloser(io.MultiReader(slow(3, 50*time.Second), ctxReader{req.Context()}))}, nil
		}, "no data for 1m0s", 150*time.Second + idleTimeout},
		"slow but moving": {"", func(req *http.Request) (*http.Response, error) {
			return &http.Response{Body: io.NopCloser(slow(100, 59*time.Second))}, nil
		}, "", 5900 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var body io.Reader
				if tc.body != "" {
					body = strings.NewReader(tc.body)
				}
				req, err := http.NewRequestWithContext(t.Context(), "PUT", "https://a.b/", body)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				resp, err := (&stallTransport{base: tc.trip}).RoundTrip(req)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if took := time.Since(start); took != tc.elapsed {
					t.Errorf("took %s, want %s", took, tc.elapsed)
				}
				if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if e, ok := errors.AsType[net.Error](err); err != nil && (!ok || !e.Timeout()) {
					t.Errorf("%v is not a timeout", err)
				}
			})
		})
	}
}

// A reader that takes its time is not a host that stalls.
func TestStallSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &stallTransport{base: pipeTripper(func(req *http.Request) (*http.Response, error) {
			return &http.Response{Body: io.NopCloser(strings.NewReader("abc"))}, nil
		})}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://a.b/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for range 3 {
			time.Sleep(time.Hour)
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A host that is silent for some seconds is worth a word, once.
func TestWaitingIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := make(chan string, 4)
		tr := &stallTransport{waiting: func(host string) { said <- host }}
		wait := time.Duration(0)
		tr.base = pipeTripper(func(*http.Request) (*http.Response, error) {
			time.Sleep(wait)
			return &http.Response{Body: http.NoBody}, nil
		})
		ask := func(host string, after time.Duration) {
			t.Helper()
			wait = after
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/v2/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		ask("quick.test", quietTimeout-1)
		time.Sleep(time.Hour)
		ask("a.test:5000", quietTimeout+1)
		ask("a.test:5000", quietTimeout+1)
		ask("b.test", time.Minute)
		synctest.Wait()
		close(said)
		var got []string
		for host := range said {
			got = append(got, host)
		}
		if want := "a.test:5000 b.test"; strings.Join(got, " ") != want {
			t.Errorf("said %q, want %q", got, want)
		}
	})
}
