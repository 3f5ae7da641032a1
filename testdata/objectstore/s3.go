// Package objectstore is an S3 server in the test's own process, for tests that
// need no other program. It keeps objects in memory, checks the signatures of
// signed URLs, and lets a test put faults before it.
package objectstore

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// The keys that the server knows.
const (
	AccessKey = "AKIAPROBEPROBEPROBE0"
	SecretKey = "s3cr3t/Key+thatMustNotShow0123456789"
)

// Server is the server. Its fields are set before the first request.
type Server struct {
	*httptest.Server
	// Origin is the one that pages may upload from; "" is none, "*" any.
	Origin string
	// Public lets requests without credentials read.
	Public bool
	// Skew is added to the Date of every answer.
	Skew time.Duration
	// AnySignature accepts signed URLs whose signature was changed.
	AnySignature bool
	// Deny refuses requests for which it is true.
	Deny func(*http.Request) bool
	// Drop takes header lines away before they are seen.
	Drop func(name string) bool
	// NoLifecycle answers 501 to everything about lifecycle rules.
	NoLifecycle bool

	mu        sync.Mutex
	lifecycle map[string]string // bucket: its rules, XML
	objects   http.Handler
}

// New starts a server. tls says whether it speaks TLS.
func New(t testing.TB, tls bool) *Server {
	t.Helper()
	quiet := gofakes3.StdLog(log.New(io.Discard, "", 0))
	s := &Server{lifecycle: make(map[string]string), objects: gofakes3.New(s3mem.New(), gofakes3.WithLogger(quiet)).Server()}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// Endpoint is host:port.
func (s *Server) Endpoint() string { return s.Listener.Addr().String() }

// Make creates buckets.
func (s *Server) Make(t testing.TB, buckets ...string) {
	t.Helper()
	for _, b := range buckets {
		s.direct(t, http.MethodPut, "/"+b, "")
	}
}

// EnableVersioning of a bucket.
func (s *Server) EnableVersioning(t testing.TB, bucket string) {
	t.Helper()
	s.direct(t, http.MethodPut, "/"+bucket+"?versioning", `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
}

// Put stores an object.
func (s *Server) Put(t testing.TB, bucket, key, content string) {
	t.Helper()
	s.direct(t, http.MethodPut, "/"+bucket+"/"+key, content)
}

// Keys lists all versions of all objects of a bucket, as text.
func (s *Server) Keys(t testing.TB, bucket string) string {
	t.Helper()
	var list struct {
		Version []struct{ Key string }
	}
	if err := xml.Unmarshal([]byte(s.direct(t, http.MethodGet, "/"+bucket+"?versions", "")), &list); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, v := range list.Version {
		keys = append(keys, v.Key)
	}
	return strings.Join(keys, " ")
}

// Expire gives a bucket rules that delete objects: id, days in turns.
func (s *Server) Expire(bucket, id string, days int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifecycle[bucket] = fmt.Sprintf(`<LifecycleConfiguration><Rule><ID>%s</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>%d</Days></Expiration></Rule></LifecycleConfiguration>`, id, days)
}

// Lifecycle is what a bucket's rules are.
func (s *Server) Lifecycle(bucket string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lifecycle[bucket]
}

func (s *Server) direct(t testing.TB, method, target, body string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	s.objects.ServeHTTP(w, r)
	if w.Code >= http.StatusBadRequest {
		t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	return w.Body.String()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Skew != 0 {
		w.Header().Set("Date", time.Now().Add(s.Skew).UTC().Format(http.TimeFormat))
	}
	for name := range r.Header {
		if s.Drop != nil && s.Drop(name) {
			delete(r.Header, name)
		}
	}
	switch code := s.refuse(r); {
	case r.Method == http.MethodOptions:
		s.preflight(w, r)
	case code != "":
		refuse(w, http.StatusForbidden, code)
	case r.URL.Query().Has("lifecycle"):
		s.rules(w, r)
	default:
		s.objects.ServeHTTP(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message><StringToSign>%s</StringToSign></Error>", code, SecretKey)
}

// refuse is the code that a request is refused with; "" is none.
func (s *Server) refuse(r *http.Request) string {
	q := r.URL.Query()
	if s.Deny != nil && s.Deny(r) {
		return "AccessDenied"
	}
	switch auth := r.Header.Get("Authorization"); {
	case q.Has("X-Amz-Signature"):
		if !s.AnySignature && q.Get("X-Amz-Signature") != s.sign(r) {
			return "SignatureDoesNotMatch"
		}
	case auth == "":
		if !s.Public {
			return "AccessDenied"
		}
	case !strings.Contains(auth, "Credential="+AccessKey+"/"):
		return "InvalidAccessKeyId"
	}
	return ""
}

// sign computes the signature of a signed URL (AWS Signature Version 4, query
// parameters).
func (s *Server) sign(r *http.Request) string {
	q := r.URL.Query()
	q.Del("X-Amz-Signature")
	query := strings.ReplaceAll(q.Encode(), "+", "%20")
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), query, "host:" + r.Host, "", "host", "UNSIGNED-PAYLOAD"}, "\n")
	_, scope, _ := strings.Cut(q.Get("X-Amz-Credential"), "/")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", q.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + SecretKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (s *Server) preflight(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if s.Origin == "" || s.Origin != "*" && s.Origin != origin {
		refuse(w, http.StatusForbidden, "AccessForbidden")
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", s.Origin)
	w.Header().Set("Access-Control-Allow-Methods", "GET, PUT, POST")
	w.WriteHeader(http.StatusOK)
}

// rules keeps lifecycle rules, which the server below does not know.
func (s *Server) rules(w http.ResponseWriter, r *http.Request) {
	bucket := strings.Trim(r.URL.Path, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.NoLifecycle:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			refuse(w, http.StatusBadRequest, "IncompleteBody")
			return
		}
		s.lifecycle[bucket] = string(body)
	case s.lifecycle[bucket] == "":
		refuse(w, http.StatusNotFound, "NoSuchLifecycleConfiguration")
	default:
		_, _ = io.WriteString(w, s.lifecycle[bucket])
	}
}
