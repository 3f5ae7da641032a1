package harbor

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
)

// The name is one that httptest's certificate is for.
const testHost = "example.com"

// standIn plays Harbor's API and login as observed on Harbor 2.16.0: a token
// for anyone who asks, users/current refusing robots, a session cookie that
// makes the next write fail, existence of projects shown to every account.
//
// Not confirmed against the real product: the body of a repository's 404, and
// what a robot without the right gets from retentions (403 here).
type standIn struct {
	t      *testing.T
	server *httptest.Server
	ca     string

	mu       sync.Mutex
	accounts map[string]string   // name to secret
	push     map[string]bool     // accounts that may push
	readonly bool                // system mode
	projects map[string]string   // name to JSON
	answers  map[string]answer   // by "METHOD path", before all else
	asked    []string            // "METHOD path"
	shown    []string            // Authorization headers
	posted   map[string]any      // last project
	repos    map[string][]string // repositories by project
}

type answer struct {
	status int
	body   string
}

const (
	robotName = "robot$apps+mirror"
	userName  = "operator"
	secret    = "topsecret"
)

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{
		t:        t,
		accounts: map[string]string{robotName: secret, userName: secret},
		push:     map[string]bool{robotName: true, userName: true},
		projects: map[string]string{}, answers: map[string]answer{}, repos: map[string][]string{},
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	if err := os.WriteFile(s.ca, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// client is the product's, with the cookie jar that must not be used.
func (s *standIn) client() *http.Client {
	s.t.Helper()
	hosts, err := remote.New(remote.Options{
		CAFiles: []string{s.ca}, Resolve: map[string]string{testHost: s.server.Listener.Addr().String()}, Attempts: 1,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := *hosts.HTTPClient()
	c.Jar = jar
	return &c
}

func (s *standIn) target(user, password string, change ...func(*Options)) *Target {
	s.t.Helper()
	o := Options{
		Host: testHost, HTTPClient: s.client(), LookupEnv: func(string) (string, bool) { return "", false },
		Credential: target.Credential{Username: user, Password: password, Source: "test"},
	}
	for _, f := range change {
		f(&o)
	}
	tg, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return tg
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a client that left is the test's to notice
}

func refusal(code, message string) string {
	data, err := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
	if err != nil {
		return ""
	}
	return string(data)
}

func (s *standIn) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	if a := r.Header.Get("Authorization"); a != "" {
		s.shown = append(s.shown, a)
	}
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1", Path: "/", HttpOnly: true})
	if _, err := r.Cookie("sid"); err == nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
		reply(w, 403, refusal("FORBIDDEN", "CSRF token not found in request"))
		return
	}
	user, password, _ := r.BasicAuth()
	known := user != "" && s.accounts[user] == password
	if a, ok := s.answers[r.Method+" "+r.URL.Path]; ok {
		reply(w, a.status, a.body)
		return
	}
	switch {
	case r.URL.Path == "/v2/":
		if !known {
			w.Header().Set("Www-Authenticate", `Bearer realm="https://`+testHost+`/service/token",service="harbor-registry"`)
			reply(w, 401, refusal("UNAUTHORIZED", "unauthorized: unauthorized"))
			return
		}
		reply(w, 200, "{}")
	case r.URL.Path == "/service/token":
		s.token(w, r, known && s.push[user])
	case r.URL.Path == "/api/v2.0/systeminfo":
		if known {
			reply(w, 200, fmt.Sprintf(`{"auth_mode":"db_auth","harbor_version":"v2.16.0","read_only":%t}`, s.readonly))
			return
		}
		reply(w, 200, `{"auth_mode":"db_auth","self_registration":false}`)
	case r.URL.Path == "/api/v2.0/users/current" && strings.Contains(user, "$"):
		reply(w, 412, refusal("PRECONDITION", "get security context: robot"))
	case !known:
		reply(w, 401, refusal("UNAUTHORIZED", "unauthorized"))
	default:
		s.api(w, r, user)
	}
}

func (s *standIn) token(w http.ResponseWriter, r *http.Request, push bool) {
	if r.Method != http.MethodGet {
		reply(w, 405, "")
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Query().Get("scope"), "repository:"), ":pull,push")
	actions := []string{}
	if push {
		actions = []string{"pull", "push"}
	}
	claims, err := json.Marshal(map[string]any{"iss": "harbor-token-issuer", "access": []any{map[string]any{"type": "repository", "name": name, "actions": actions}}})
	if err != nil {
		reply(w, 500, "")
		return
	}
	enc := base64.RawURLEncoding.EncodeToString
	reply(w, 200, fmt.Sprintf(`{"token":"%s.%s.%s","access_token":"","expires_in":1800}`, enc([]byte(`{"alg":"RS256"}`)), enc(claims), enc([]byte("signature"))))
}

func (s *standIn) api(w http.ResponseWriter, r *http.Request, user string) {
	rest := strings.TrimPrefix(r.URL.Path, "/api/v2.0/projects")
	switch {
	case rest == "" && r.Method == http.MethodHead:
		if _, ok := s.projects[r.URL.Query().Get("project_name")]; !ok {
			reply(w, 404, "")
			return
		}
		reply(w, 200, "")
	case rest == "" && r.Method == http.MethodPost:
		s.create(w, r, user)
	default:
		name, sub, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		body, ok := s.projects[name]
		switch {
		case !ok || r.Header.Get("X-Is-Resource-Name") != "true":
			reply(w, 403, refusal("FORBIDDEN", "forbidden"))
		case sub == "":
			reply(w, 200, body)
		case sub == "summary":
			reply(w, 200, `{"repo_count":0,"quota":{"hard":{"storage":-1},"used":{"storage":0}}}`)
		case sub == "immutabletagrules":
			reply(w, 200, `[]`)
		case strings.HasPrefix(sub, "repositories/"):
			for _, have := range s.repos[name] {
				// The server has undone one escape, Harbor undoes the other.
				if sub == "repositories/"+strings.ReplaceAll(have, "/", "%2F") {
					reply(w, 200, `{}`)
					return
				}
			}
			reply(w, 404, refusal("NOT_FOUND", "repository not found"))
		default:
			reply(w, 403, refusal("FORBIDDEN", "forbidden"))
		}
	}
}

func (s *standIn) create(w http.ResponseWriter, r *http.Request, user string) {
	if strings.Contains(user, "+") {
		reply(w, 403, refusal("FORBIDDEN", "Only system level robot can create project"))
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&s.posted); err != nil {
		reply(w, 400, refusal("BAD_REQUEST", "parse"))
		return
	}
	name, _ := s.posted["project_name"].(string)
	if _, ok := s.projects[name]; ok {
		reply(w, 409, refusal("CONFLICT", "The project named "+name+" already exists"))
		return
	}
	if strings.ToLower(name) != name {
		reply(w, 400, refusal("BAD_REQUEST", "project name is not in lower case or contains illegal characters"))
		return
	}
	s.projects[name] = `{"metadata":{"public":"false"}}`
	w.Header().Set("Location", "/api/v2.0/projects/7")
	reply(w, 201, "")
}
