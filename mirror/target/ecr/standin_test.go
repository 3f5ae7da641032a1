package ecr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// standIn is a stand-in for the API of Amazon ECR, for the real SDK to talk to
// under the service's own host names.
//
// Behaviour and where it is from:
//   - AWS JSON 1.1, X-Amz-Target AmazonEC2ContainerRegistry_V20150921.<Op>,
//     errors as 400 {"__type","message"}, expiresAt in seconds: observed with
//     the SDK, registries.md 4.2.
//   - DescribeRepositories fails as a whole with RepositoryNotFoundException
//     where one name is missing: API reference.
//   - GetLifecyclePolicy without a policy: LifecyclePolicyNotFoundException.
//   - CreateRepository of one that exists: RepositoryAlreadyExistsException.
//
// Not confirmed against the real service: the texts of messages, which right is
// checked first when a batch holds a repository that is forbidden and one that
// is missing, and the error that GetAccountSetting gives in partitions without
// blob mounting.
type standIn struct {
	*httptest.Server
	client *http.Client

	mu        sync.Mutex
	now       time.Time
	region    string
	password  string
	expires   time.Time
	repos     map[string]map[string]any
	policies  map[string]string
	hidden    map[string]bool // repositories this account may not describe
	mounting  string
	templates []map[string]any
	faults    map[string]fault // by operation
	calls     []string         // operations, in order
	hosts     map[string]bool  // names asked for
	created   []map[string]any
}

type fault struct{ code, message string }

const account = "123456789012"

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{
		now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), region: "us-gov-west-1", password: "secret-login-of-ecr",
		repos: map[string]map[string]any{}, policies: map[string]string{}, hidden: map[string]bool{}, mounting: "DISABLED",
		faults: map[string]fault{}, hosts: map[string]bool{},
	}
	s.expires = s.now.Add(12 * time.Hour)
	cert, pool := certificate(t)
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of tests
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			s.mu.Lock()
			s.hosts[addr] = true
			s.mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}}
	return s
}

// certificate makes a CA and, by it, a certificate for the hosts in the tests.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{
			"api.ecr.us-gov-west-1.amazonaws.com", "api.ecr.us-east-1.amazonaws.com", "api.ecr.cn-north-1.amazonaws.com.cn",
			"api.ecr.us-iso-east-1.c2s.ic.gov", "api.ecr-fips.us-gov-west-1.amazonaws.com", "ecr.us-east-1.api.aws",
			"vpce-0a1b-c2d3.api.ecr.us-gov-west-1.vpce.amazonaws.com",
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// target returns a target that talks to the stand-in, without credentials from
// the machine that the test runs on.
func (s *standIn) target(t *testing.T, change ...func(*Options)) *Target {
	t.Helper()
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, name := range []string{
		"AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL",
		"AWS_ENDPOINT_URL_ECR", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		t.Setenv(name, "")
	}
	none := t.TempDir() + "/none"
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	o := Options{
		Host:       account + ".dkr.ecr.us-gov-west-1.amazonaws.com",
		HTTPClient: s.client,
		Now:        func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
		LookupEnv:  env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "secret-key-of-aws"),
	}
	for _, f := range change {
		f(&o)
	}
	target, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func (s *standIn) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c == op {
			n++
		}
	}
	return n
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonEC2ContainerRegistry_V20150921.")
	if !ok || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		s.fail(w, fault{"MissingAuthenticationTokenException", "Missing Authentication Token"})
		return
	}
	s.calls = append(s.calls, op)
	if f, ok := s.faults[op]; ok {
		s.fail(w, f)
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/"+s.region+"/ecr/aws4_request") {
		s.fail(w, fault{"InvalidSignatureException", "Credential should be scoped to a valid region."})
		return
	}
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.fail(w, fault{"SerializationException", err.Error()})
		return
	}
	out, f := s.answer(op, in)
	if f.code != "" {
		s.fail(w, f)
		return
	}
	s.write(w, http.StatusOK, out)
}

func (s *standIn) fail(w http.ResponseWriter, f fault) {
	s.write(w, http.StatusBadRequest, map[string]any{"__type": f.code, "message": f.message})
}

func (s *standIn) write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away is the test's business
}

func (s *standIn) answer(op string, in map[string]any) (any, fault) {
	name, _ := in["repositoryName"].(string)
	switch op {
	case "GetAuthorizationToken":
		return map[string]any{"authorizationData": []any{map[string]any{
			"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + s.password)),
			"expiresAt":          s.expires.Unix(),
			"proxyEndpoint":      "https://" + account + ".dkr.ecr." + s.region + ".amazonaws.com",
		}}}, fault{}
	case "DescribeRepositories":
		return s.describe(in)
	case "CreateRepository":
		if s.repos[name] != nil {
			return nil, fault{"RepositoryAlreadyExistsException", "The repository with name '" + name + "' already exists"}
		}
		in["repositoryArn"] = "arn"
		s.repos[name] = in
		s.created = append(s.created, in)
		return map[string]any{"repository": map[string]any{"repositoryName": name}}, fault{}
	case "GetLifecyclePolicy":
		if p := s.policies[name]; p != "" {
			return map[string]any{"lifecyclePolicyText": p}, fault{}
		}
		return nil, fault{"LifecyclePolicyNotFoundException", "Lifecycle policy does not exist"}
	case "GetAccountSetting":
		return map[string]any{"name": in["name"], "value": s.mounting}, fault{}
	case "DescribeRepositoryCreationTemplates":
		return map[string]any{"repositoryCreationTemplates": s.templates}, fault{}
	}
	return nil, fault{"UnknownOperationException", op}
}

func (s *standIn) describe(in map[string]any) (any, fault) {
	if in["registryId"] != account {
		return nil, fault{"InvalidParameterException", fmt.Sprintf("registryId %v", in["registryId"])}
	}
	names, _ := in["repositoryNames"].([]any)
	if len(names) > 100 {
		return nil, fault{"InvalidParameterException", "more than 100 names"}
	}
	var list []any
	for _, n := range names {
		name, _ := n.(string)
		if s.hidden[name] {
			return nil, fault{"AccessDeniedException", "User: arn:aws-us-gov:iam::123456789012:user/m is not authorized to perform: ecr:DescribeRepositories"}
		}
		r := s.repos[name]
		if r == nil {
			return nil, fault{"RepositoryNotFoundException", "The repository with name '" + name + "' does not exist in the registry with id '" + account + "'"}
		}
		list = append(list, map[string]any{
			"repositoryName": name, "imageTagMutability": r["imageTagMutability"], "imageTagMutabilityExclusionFilters": r["imageTagMutabilityExclusionFilters"],
		})
	}
	slices.Reverse(list) // no order is promised
	return map[string]any{"repositories": list}, fault{}
}
