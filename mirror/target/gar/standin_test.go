package gar

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
)

const testHost = "europe-west1-docker.pkg.dev"

// standIn plays Google's token endpoints and the Artifact Registry API under
// their real names. It is made from the published documentation and issues:
//
//   - POST oauth2.googleapis.com/token: RFC 7523 and refresh tokens; invalid_grant
//     for a stale iat and for a deleted key, told apart in words only;
//   - POST sts.googleapis.com/v1/token, iamcredentials generateAccessToken;
//   - GET, POST repositories, operations, testIamPermissions, locations.
//
// Not confirmed against the real service: the status of an unknown location
// (404 here), the ErrorInfo of VPC Service Controls, how long an operation takes.
type standIn struct {
	t      *testing.T
	key    *rsa.PrivateKey
	server *httptest.Server
	ca     string

	mu      sync.Mutex
	skew    time.Duration     // of Google's clock against ours
	deleted bool              // the service account key
	lives   int               // seconds; what a token lives
	issued  int               // tokens so far
	answers map[string]answer // by "METHOD path", before all else
	repos   map[string]string // by resource, JSON
	denied  bool              // testIamPermissions grants nothing
	polls   int               // operation polls until done
	asked   []string          // "METHOD host/path"
	shown   map[string]string // last Authorization by host
	posted  map[string]any    // last body of a create
}

type answer struct {
	status int
	body   string
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{t: t, key: key, lives: 3600, answers: map[string]answer{}, repos: map[string]string{}, shown: map[string]string{}}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	cert, caFile := certificate(t, "*.googleapis.com", testHost)
	s.ca = caFile
	s.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

// certificate makes a CA, writes it to a file and signs a certificate for names.
func certificate(t *testing.T, names ...string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// target makes a Target whose client is the product's: real names, a CA file
// and addresses as --ca-file and --resolve give them.
func (s *standIn) target(env map[string]string, change ...func(*Options)) *Target {
	s.t.Helper()
	addr := s.server.Listener.Addr().String()
	resolve := map[string]string{}
	for _, h := range []string{"artifactregistry", "oauth2", "sts", "iamcredentials"} {
		resolve[h+".googleapis.com"] = addr
	}
	hosts, err := remote.New(remote.Options{CAFiles: []string{s.ca}, Resolve: resolve, Attempts: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	o := Options{Host: testHost, HTTPClient: hosts.HTTPClient(), LookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	for _, f := range change {
		f(&o)
	}
	target, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	target.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return target
}

// keyEnv writes a service account key file and names it.
func (s *standIn) keyEnv() map[string]string {
	s.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.fileEnv(map[string]any{
		"type": "service_account", "project_id": "acme", "private_key_id": "k1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "mirror@acme.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
	})
}

func (s *standIn) fileEnv(v any) map[string]string {
	s.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	name := filepath.Join(s.t.TempDir(), "credentials.json")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": name}
}

func (s *standIn) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.Host+r.URL.Path)
	if a := r.Header.Get("Authorization"); a != "" {
		s.shown[r.Host] = a
	}
	w.Header().Set("Date", time.Now().Add(s.skew).UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if a, ok := s.answers[r.Method+" "+r.URL.Path]; ok {
		if a.status == http.StatusFound {
			w.Header().Set("Location", a.body)
			a.body = ""
		}
		reply(w, a.status, a.body)
		return
	}
	switch r.Host {
	case "oauth2.googleapis.com":
		s.token(w, r)
	case "sts.googleapis.com":
		s.sts(w, r)
	case "iamcredentials.googleapis.com":
		if r.Header.Get("Authorization") != "Bearer federated" {
			reply(w, 401, `{"error":{"code":401,"status":"UNAUTHENTICATED"}}`)
			return
		}
		reply(w, 200, fmt.Sprintf(`{"accessToken":%q,"expireTime":%q}`, s.issue(), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	case "artifactregistry.googleapis.com":
		s.api(w, r)
	default:
		reply(w, 421, `{}`)
	}
}

func reply(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a client that left is the test's to notice
}

func (s *standIn) issue() string {
	s.issued++
	return fmt.Sprintf("ya29.secret-%d", s.issued)
}

func (s *standIn) token(w http.ResponseWriter, r *http.Request) {
	switch r.PostFormValue("grant_type") {
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if msg := s.checkAssertion(r.PostFormValue("assertion")); msg != "" {
			reply(w, 400, fmt.Sprintf(`{"error":"invalid_grant","error_description":%q}`, msg))
			return
		}
	case "refresh_token":
		if r.PostFormValue("refresh_token") != "1//refresh" {
			reply(w, 400, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`)
			return
		}
	default:
		reply(w, 400, `{"error":"unsupported_grant_type"}`)
		return
	}
	reply(w, 200, fmt.Sprintf(`{"access_token":%q,"expires_in":%d,"token_type":"Bearer"}`, s.issue(), s.lives))
}

func (s *standIn) checkAssertion(jwt string) string {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return "Invalid JWT: not one"
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || s.deleted || rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], sig) != nil {
		return "Invalid JWT Signature."
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Iss, Aud, Scope string
		Iat, Exp        int64
	}
	if err != nil || json.Unmarshal(data, &claims) != nil || claims.Iss != "mirror@acme.iam.gserviceaccount.com" || claims.Scope != tokenScope {
		return "Invalid JWT: claims"
	}
	now := time.Now().Add(s.skew)
	if d := now.Sub(time.Unix(claims.Iat, 0)); d < -5*time.Minute || now.After(time.Unix(claims.Exp, 0)) {
		return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."
	}
	return ""
}

func (s *standIn) sts(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("subject_token") != "oidc-subject" {
		reply(w, 400, `{"error":"invalid_grant","error_description":"The given credential is rejected by the attribute condition."}`)
		return
	}
	reply(w, 200, `{"access_token":"federated","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3600}`)
}

func (s *standIn) api(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ya29.secret-") {
		reply(w, 401, `{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}`)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case strings.Contains(path, "/operations/"):
		s.polls--
		reply(w, 200, fmt.Sprintf(`{"name":%q,"done":%t}`, path, s.polls <= 0))
	case strings.HasSuffix(path, ":testIamPermissions"):
		if s.denied {
			reply(w, 200, `{}`)
			return
		}
		reply(w, 200, `{"permissions":["artifactregistry.repositories.uploadArtifacts"]}`)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/repositories"):
		name := path + "/" + r.URL.Query().Get("repositoryId")
		if _, ok := s.repos[name]; ok {
			reply(w, 409, `{"error":{"code":409,"message":"the repository already exists","status":"ALREADY_EXISTS"}}`)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&s.posted); err != nil {
			reply(w, 400, `{"error":{"code":400,"status":"INVALID_ARGUMENT"}}`)
			return
		}
		s.repos[name] = `{"format":"DOCKER","mode":"STANDARD_REPOSITORY"}`
		reply(w, 200, fmt.Sprintf(`{"name":%q}`, strings.TrimSuffix(path, "/repositories")+"/operations/op-1"))
	case strings.HasSuffix(path, "/locations/europe-west1"):
		reply(w, 200, `{"locationId":"europe-west1"}`)
	default:
		if body, ok := s.repos[path]; ok {
			reply(w, 200, body)
			return
		}
		reply(w, 404, `{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}`)
	}
}
