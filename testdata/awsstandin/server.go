// Package awsstandin is a stand-in for the APIs of AWS that the probes call: KMS,
// SQS, ACM and ECS as JSON, EC2 and Elastic Load Balancing as Query with XML. It
// serves the real SDK over HTTP on this machine.
//
// Shapes are those of the service models that the SDK is generated from: names
// of fields, error bodies, which of them are lists. What no test here confirms:
// that the real services fill the same fields in the same states, their limits
// and pages, permissions below "allowed or not", signatures (only their presence
// and scope are looked at), and the words in which they refuse.
package awsstandin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Region and Account are where everything of the stand-in lies.
const (
	Region  = "eu-central-1"
	Account = "123456789012"
)

// Server holds what the APIs know. Fill it before it is called.
type Server struct {
	Keys         map[string]*Key   // by id or alias
	Queues       map[string]*Queue // by URL
	Certificates map[string]*Certificate
	Network      Network
	Balancers    []Balancer
	Cluster      Cluster
	Denied       map[string]bool // actions that are refused, such as "kms:Encrypt"

	mu    sync.Mutex
	calls []string
}

// New starts a stand-in and points the SDK's environment at it, and at nothing
// else: no shared configuration, no instance metadata.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Keys: map[string]*Key{}, Queues: map[string]*Queue{}, Certificates: map[string]*Certificate{}, Denied: map[string]bool{},
	}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	Point(t, web.URL)
	return s
}

// Point sets the environment of the SDK: an identity that is worth nothing, and
// one endpoint for every service.
func Point(t testing.TB, endpoint string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example-not-a-secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_REGION": Region, "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CA_BUNDLE": "", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "", "NO_PROXY": "127.0.0.1", "AWS_MAX_ATTEMPTS": "1", "AWS_USE_FIPS_ENDPOINT": "", "AWS_USE_DUALSTACK_ENDPOINT": "",
	} {
		t.Setenv(name, value)
	}
	for _, service := range []string{"KMS", "SQS", "ACM", "EC2", "ECS", "ELASTIC_LOAD_BALANCING_V2"} {
		t.Setenv("AWS_ENDPOINT_URL_"+service, endpoint)
	}
}

// Calls lists the actions that were called, in order.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// failure is how an API refuses.
type failure struct {
	code, message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		s.serveJSON(w, r, target, body)
		return
	}
	s.serveQuery(w, r, body)
}

// signed reports whether a request has a signature for a service.
func signed(r *http.Request, service string) bool {
	auth := r.Header.Get("Authorization")
	return strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") && strings.Contains(auth, "/"+Region+"/"+service+"/aws4_request")
}

// admit counts a call and says why it is refused, nil if it is not.
func (s *Server) admit(r *http.Request, service, prefix, action string) *failure {
	s.calls = append(s.calls, prefix+":"+action)
	if !signed(r, service) {
		return &failure{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	if s.Denied[prefix+":"+action] {
		return &failure{"AccessDeniedException", "User: arn:aws:iam::" + Account + ":role/app is not authorized to perform: " + prefix + ":" + action}
	}
	return nil
}

// serveJSON speaks AWS JSON 1.0 and 1.1.
func (s *Server) serveJSON(w http.ResponseWriter, r *http.Request, target string, body []byte) {
	service, action, _ := strings.Cut(target, ".")
	type api struct {
		name  string
		serve func(action string, body []byte) (any, *failure)
	}
	apis := map[string]api{
		"TrentService": {"kms", s.kms}, "AmazonSQS": {"sqs", s.sqs}, "CertificateManager": {"acm", s.acm},
		"AmazonEC2ContainerServiceV20141113": {"ecs", s.ecs},
	}
	a, ok := apis[service]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	var out any
	refused := s.admit(r, a.name, a.name, action)
	if refused == nil {
		out, refused = a.serve(action, body)
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	if refused != nil {
		w.WriteHeader(http.StatusBadRequest)
		out = map[string]any{"__type": refused.code, "message": refused.message}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		panic(err) // the answer is this package's own
	}
}

// serveQuery speaks AWS Query, as Elastic Load Balancing and, with other names,
// EC2 have it.
func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	action := form.Get("Action")
	w.Header().Set("Content-Type", "text/xml")
	if form.Get("Version") == "2016-11-15" {
		refused := s.admit(r, "ec2", "ec2", action)
		if refused != nil && refused.code == "AccessDeniedException" {
			refused.code = "UnauthorizedOperation"
		}
		var out []element
		if refused == nil {
			out, refused = s.ec2(action, form)
		}
		if refused != nil {
			w.WriteHeader(http.StatusBadRequest)
			send(w, tree("Response", tree("Errors", tree("Error", leaf("Code", refused.code), leaf("Message", refused.message))), leaf("RequestID", "1")))
			return
		}
		send(w, tree(action+"Response", append(out, leaf("requestId", "1"))...))
		return
	}
	refused := s.admit(r, "elasticloadbalancing", "elasticloadbalancing", action)
	if refused != nil && refused.code == "AccessDeniedException" {
		refused.code = "AccessDenied"
	}
	var out []element
	if refused == nil {
		out, refused = s.elb(action, form)
	}
	if refused != nil {
		w.WriteHeader(http.StatusBadRequest)
		send(w, tree("ErrorResponse", tree("Error", leaf("Type", "Sender"), leaf("Code", refused.code), leaf("Message", refused.message)), leaf("RequestId", "1")))
		return
	}
	send(w, tree(action+"Response", tree(action+"Result", out...), tree("ResponseMetadata", leaf("RequestId", "1"))))
}

func unknown(action string) *failure {
	return &failure{"UnknownOperationException", fmt.Sprintf("the stand-in has no %s", action)}
}
