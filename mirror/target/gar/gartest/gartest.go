// Package gartest is a stand-in for Google Artifact Registry: registry, API and
// what issues tokens.
package gartest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airlock-project/airlock/mirror/target/targettest"
)

const registryHost = "europe-west1-docker.pkg.dev"

// StandIn plays Google's token endpoints and the Artifact Registry API under
// their real names. It is made from the published documentation and issues:
//
//   - POST oauth2.googleapis.com/token: RFC 7523 and refresh tokens; invalid_grant
//     for a stale iat and for a deleted key, told apart in words only;
//   - POST sts.googleapis.com/v1/token, iamcredentials generateAccessToken;
//   - GET, POST repositories, operations, testIamPermissions, locations;
//   - the registry: Bearer by /v2/token for user oauth2accesstoken with an access
//     token as password (build-push-action#171), 404 NAME_UNKNOWN without the
//     repository, no tag moved in a repository with immutable tags.
//
// Not confirmed against the real service: the status of an unknown location
// (404 here), status and
// text for a tag that is immutable (400 here), the ErrorInfo of VPC Service Controls, how long an operation takes.
type StandIn struct {
	*targettest.Server
	Registry targettest.Registry // behind the registry's own host

	t   testing.TB
	key *rsa.PrivateKey

	Mu      sync.Mutex        // guards what follows
	Skew    time.Duration     // of Google's clock against ours
	Deleted bool              // the service account key
	Lives   int               // seconds; what a token lives
	Issued  int               // tokens so far
	Answers map[string]Answer // by "METHOD path", before all else
	Repos   map[string]string // by resource, JSON
	Denied  bool              // testIamPermissions grants nothing
	Polls   int               // operation polls until done
	Asked   []string          // "METHOD host/path"
	Shown   map[string]string // last Authorization by host
	Posted  map[string]any    // last body of a create
}

// Answer is one instead of the stand-in's.
type Answer struct {
	Status int
	Body   string
}

// newKey makes one key for the whole process: it takes its time.
var newKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// New starts a stand-in for europe-west1-docker.pkg.dev and Google's APIs.
func New(t testing.TB) *StandIn {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	s := &StandIn{t: t, key: key, Lives: 3600, Answers: map[string]Answer{}, Repos: map[string]string{}, Shown: map[string]string{}}
	s.Server = targettest.Serve(t, s, "*.googleapis.com", registryHost)
	return s
}

// KeyFile writes a service account key file and returns its name.
func (s *StandIn) KeyFile() string {
	s.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.File(map[string]any{
		"type": "service_account", "project_id": "acme", "private_key_id": "k1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "mirror@acme.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
	})
}

// File writes a credentials file and returns its name.
func (s *StandIn) File(v any) string {
	s.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	name := filepath.Join(s.t.TempDir(), "credentials.json")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// ServeHTTP answers for Google's APIs and the registry, by host.
func (s *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host == registryHost && r.URL.Path != "/v2/token" {
		s.serveRegistry(w, r)
		return
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Asked = append(s.Asked, r.Method+" "+r.Host+r.URL.Path)
	if a := r.Header.Get("Authorization"); a != "" {
		s.Shown[r.Host] = a
	}
	w.Header().Set("Date", time.Now().Add(s.Skew).UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if a, ok := s.Answers[r.Method+" "+r.URL.Path]; ok {
		if a.Status == http.StatusFound {
			w.Header().Set("Location", a.Body)
			a.Body = ""
		}
		Reply(w, a.Status, a.Body)
		return
	}
	switch r.Host {
	case registryHost:
		s.registryToken(w, r)
	case "oauth2.googleapis.com":
		s.token(w, r)
	case "sts.googleapis.com":
		s.sts(w, r)
	case "iamcredentials.googleapis.com":
		if r.Header.Get("Authorization") != "Bearer federated" {
			Reply(w, 401, `{"error":{"code":401,"status":"UNAUTHENTICATED"}}`)
			return
		}
		Reply(w, 200, fmt.Sprintf(`{"accessToken":%q,"expireTime":%q}`, s.issue(), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	case "artifactregistry.googleapis.com":
		s.api(w, r)
	default:
		Reply(w, 421, `{}`)
	}
}

// Reply writes an answer.
func Reply(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a client that left is the test's to notice
}

func (s *StandIn) issue() string {
	s.Issued++
	return fmt.Sprintf("ya29.secret-%d", s.Issued)
}

func (s *StandIn) token(w http.ResponseWriter, r *http.Request) {
	switch r.PostFormValue("grant_type") {
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if msg := s.checkAssertion(r.PostFormValue("assertion")); msg != "" {
			Reply(w, 400, fmt.Sprintf(`{"error":"invalid_grant","error_description":%q}`, msg))
			return
		}
	case "refresh_token":
		if r.PostFormValue("refresh_token") != "1//refresh" {
			Reply(w, 400, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`)
			return
		}
	default:
		Reply(w, 400, `{"error":"unsupported_grant_type"}`)
		return
	}
	Reply(w, 200, fmt.Sprintf(`{"access_token":%q,"expires_in":%d,"token_type":"Bearer"}`, s.issue(), s.Lives))
}

func (s *StandIn) checkAssertion(jwt string) string {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return "Invalid JWT: not one"
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || s.Deleted || rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], sig) != nil {
		return "Invalid JWT Signature."
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Iss, Aud, Scope string
		Iat, Exp        int64
	}
	if err != nil || json.Unmarshal(data, &claims) != nil || claims.Iss != "mirror@acme.iam.gserviceaccount.com" || claims.Scope != "https://www.googleapis.com/auth/cloud-platform" {
		return "Invalid JWT: claims"
	}
	now := time.Now().Add(s.Skew)
	if d := now.Sub(time.Unix(claims.Iat, 0)); d < -5*time.Minute || now.After(time.Unix(claims.Exp, 0)) {
		return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."
	}
	return ""
}

func (s *StandIn) sts(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("subject_token") != "oidc-subject" {
		Reply(w, 400, `{"error":"invalid_grant","error_description":"The given credential is rejected by the attribute condition."}`)
		return
	}
	Reply(w, 200, `{"access_token":"federated","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3600}`)
}

func (s *StandIn) api(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ya29.secret-") {
		Reply(w, 401, `{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}`)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case strings.Contains(path, "/operations/"):
		s.Polls--
		Reply(w, 200, fmt.Sprintf(`{"name":%q,"done":%t}`, path, s.Polls <= 0))
	case strings.HasSuffix(path, ":testIamPermissions"):
		if s.Denied {
			Reply(w, 200, `{}`)
			return
		}
		Reply(w, 200, `{"permissions":["artifactregistry.repositories.uploadArtifacts"]}`)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/repositories"):
		name := path + "/" + r.URL.Query().Get("repositoryId")
		if _, ok := s.Repos[name]; ok {
			Reply(w, 409, `{"error":{"code":409,"message":"the repository already exists","status":"ALREADY_EXISTS"}}`)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&s.Posted); err != nil {
			Reply(w, 400, `{"error":{"code":400,"status":"INVALID_ARGUMENT"}}`)
			return
		}
		s.Repos[name] = `{"format":"DOCKER","mode":"STANDARD_REPOSITORY"}`
		Reply(w, 200, fmt.Sprintf(`{"name":%q}`, strings.TrimSuffix(path, "/repositories")+"/operations/op-1"))
	case strings.HasSuffix(path, "/locations/europe-west1"):
		Reply(w, 200, `{"locationId":"europe-west1"}`)
	default:
		if body, ok := s.Repos[path]; ok {
			Reply(w, 200, body)
			return
		}
		Reply(w, 404, `{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}`)
	}
}

// registryToken is the registry's token service.
func (s *StandIn) registryToken(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != "oauth2accesstoken" || !strings.HasPrefix(password, "ya29.secret-") {
		targettest.Refusal{Status: 401, Code: "UNAUTHORIZED", Message: "authentication failed"}.Write(w)
		return
	}
	Reply(w, 200, fmt.Sprintf(`{"token":"registry.%s","expires_in":3600}`, password))
}

// serveRegistry answers under the registry's own host.
func (s *StandIn) serveRegistry(w http.ResponseWriter, r *http.Request) {
	if refusal := s.letIn(w, r); refusal.Status != 0 {
		refusal.Write(w)
		return
	}
	s.Registry.ServeHTTP(w, r)
}

func (s *StandIn) letIn(w http.ResponseWriter, r *http.Request) targettest.Refusal {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if a := r.Header.Get("Authorization"); a != "" {
		s.Shown[r.Host] = a
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer registry.ya29.secret-") {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+r.Host+`/v2/token",service="`+r.Host+`",scope="repository:`+targettest.Repository(r.URL.Path)+`:pull,push"`)
		return targettest.Refusal{Status: 401, Code: "UNAUTHORIZED", Message: "unauthenticated request"}
	}
	name := targettest.Repository(r.URL.Path)
	if name == "" {
		return targettest.Refusal{}
	}
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 3 {
		return targettest.Refusal{Status: 400, Code: "NAME_INVALID", Message: "Missing image name. Pushes should be of the form docker push HOST-NAME/PROJECT-ID/REPOSITORY/IMAGE"}
	}
	repo, ok := s.Repos["projects/"+parts[0]+"/locations/europe-west1/repositories/"+parts[1]]
	if !ok {
		return targettest.Refusal{Status: 404, Code: "NAME_UNKNOWN", Message: fmt.Sprintf("Repository %q not found", parts[1])}
	}
	if tag := targettest.Tag(r); tag != "" && strings.Contains(repo, `"immutableTags":true`) {
		if _, there := s.Registry.Has(name, tag); there {
			return targettest.Refusal{Status: 400, Code: "MANIFEST_INVALID", Message: "cannot update tag " + tag}
		}
	}
	return targettest.Refusal{}
}
